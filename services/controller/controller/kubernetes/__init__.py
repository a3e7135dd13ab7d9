"""ServedModels as Kubernetes objects: following them, saying how each is served, and who of several replicas leads.

What the controller may do there is one Role in its own namespace (tests/e2e/rbac.yaml, and the chart):
list and watch servedmodels; patch servedmodels/status; create and patch events.k8s.io events; create leases,
and get and update the one that it is named. Only `api` knows the client; nothing here is imported without a cluster.
"""
