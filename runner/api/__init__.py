"""The jobs API: routes and bodies over the stores. It never imports the engine."""
