"""Clusters: engines (what runs) x platforms (where), their agents' reports, scaling, attaching and dashboards."""
