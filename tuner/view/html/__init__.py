"""A run as one HTML file that needs nothing else: no request, no library, its results embedded as JSON."""
