"""Pictures: the only folder that knows torch and diffusers."""
