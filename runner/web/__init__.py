"""The pages: HTML over the same stores as the API. They never import it, nor the engine."""
