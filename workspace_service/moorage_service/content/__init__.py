"""The content origin: what clusters and notebooks wrote, for a browser that shows a grant in the path and no cookie."""
