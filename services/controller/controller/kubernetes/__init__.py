"""ServedModels as Kubernetes objects: list and watch, status, events, and the election of a leader.

The controller needs one Role in its own namespace (tests/e2e/rbac.yaml, and the chart): list and watch servedmodels;
patch servedmodels/status; create and patch events.k8s.io events; create leases, and get and update its own one. Only
`api` imports the client; nothing here is imported without a cluster.
"""
