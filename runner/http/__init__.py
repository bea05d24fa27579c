"""What the API and the pages share: who calls, what is refused and how, the hub of events, the server."""
