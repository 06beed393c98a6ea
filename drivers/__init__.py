"""What reads a device, a feed or a file and emits frames. Import them by full path."""
