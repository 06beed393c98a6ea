"""What a host has and lacks for the receiver: each finding with its remedy."""
