"""What a base station measures on the sounding reference signals of terminals in the scene."""
