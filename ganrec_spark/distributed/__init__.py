"""What runs on many machines at once: Horovod, Petastorm, MLlib and ranking by Spark. Shared by the stages."""
