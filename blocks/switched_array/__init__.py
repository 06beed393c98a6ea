"""One receiver switched over the elements of an array: snapshots, carrier offset and bearing of each packet."""
