"""SASRec, a Transformer over each user's history."""
