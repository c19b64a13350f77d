"""What compose.yaml needs beside images: its first run, and the configuration of what observes it."""
