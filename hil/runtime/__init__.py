"""Running graphs: workers, edges, supervision, control plane, metrics."""
