"""The desk of a server: what the commands ask goes over HTTP. The only place that knows the HTTP library."""
