"""What makes jobs happen: small synchronous ticks over the stores."""
