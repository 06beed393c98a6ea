"""USRPs of the E3xx kind as UHD 4.3 speaks to them: MPM discovery and calls, and CHDR packets."""
