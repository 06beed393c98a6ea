"""Channel frequency responses: from sounding signals, cleaned, and to directions."""
