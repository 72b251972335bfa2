"""What measures speed, with what it is measured against."""
