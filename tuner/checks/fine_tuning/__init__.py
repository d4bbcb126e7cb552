"""What of a trained model is kept frozen, and whether what it remembers of its data fits these."""
