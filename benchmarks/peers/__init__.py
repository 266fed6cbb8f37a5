"""What people do today: each peer a small server, set up the way its own documentation recommends."""
