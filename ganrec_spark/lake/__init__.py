"""The only door to stored tables: Iceberg rows, editions, the pointer to what is published."""
