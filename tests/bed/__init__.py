"""The test bed: namespaces, the real server, and peers of every kind, each a process of its own."""
