"""The HTTP service. It shows and receives; it computes nothing."""
