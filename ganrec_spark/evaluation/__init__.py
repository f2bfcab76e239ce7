"""How good lists are: metrics, intervals, which users judge."""
