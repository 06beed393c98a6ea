"""KrakenSDR's data acquisition, heimdall, in both versions of its protocol."""
