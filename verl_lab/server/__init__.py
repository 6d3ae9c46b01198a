"""The server extension: REST and WebSockets over one ``Lab``, for the JupyterLab side panel and for live outputs."""
