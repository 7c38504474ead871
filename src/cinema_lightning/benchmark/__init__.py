"""The benchmark: a declared matrix of cells, run here or on a cluster, and its report."""
