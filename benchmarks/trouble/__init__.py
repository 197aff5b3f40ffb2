"""What a hostile day does to a checkout: kills, bad inputs, full and closed places."""
