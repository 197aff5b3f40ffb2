"""What a graph is worth: images, preprocessing, metrics, the gate."""
