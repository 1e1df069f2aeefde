"""Keep, export, describe and use trained models; nothing here can change a result."""
