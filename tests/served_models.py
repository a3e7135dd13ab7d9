"""Valid and invalid ServedModel documents, for the schema of documents in a folder and for the API server."""

from __future__ import annotations

import copy
from typing import Any

Json = dict[str, Any]

GOOD: Json = {
    "apiVersion": "triptych.dev/v1alpha1",
    "kind": "ServedModel",
    "metadata": {"name": "sales-de"},
    "spec": {"model": "sales_de", "traffic": [{"version": 3, "percent": 95}, {"version": 4, "percent": 5}]},
}


def changed(*path: Any, to: Any = None) -> Json:
    """The valid document with one value replaced, or removed."""
    document = copy.deepcopy(GOOD)
    node = document
    for part in path[:-1]:
        node = node.setdefault(part, {}) if isinstance(node, dict) else node[part]
    if to is None:
        del node[path[-1]]
    else:
        node[path[-1]] = to
    return document


TRAFFIC = ("spec", "traffic")
SHARES = {  # these take a rule (CEL), which only the API server knows
    "percents below 100": (changed(*TRAFFIC, 1, "percent", to=4), "percents must sum to 100"),
    "percents above 100": (changed(*TRAFFIC, 1, "percent", to=6), "percents must sum to 100"),
    "one version twice": (changed(*TRAFFIC, 1, "version", to=3), "a version is there more than once"),
    **{
        f"an alias that is {what}": (changed("spec", "aliases", to={name: 3}), "want a name of 1 to 255 letters")
        for what, name in {
            "reserved": "Latest",
            "a number": "12",
            "a version in MLflow's spelling": "v12",
            "empty": "",
            "too long": "a" * 256,
            "of two words": "to be",
            "of another alphabet": "é",
            "of two lines": "a\n",
        }.items()
    },
    "fewer replicas than the least": (
        changed("spec", "placement", to={"minReplicas": 3, "maxReplicas": 2}),
        "maxReplicas is less than minReplicas",
    ),
}
BAD = {
    "no traffic": (changed(*TRAFFIC), "Required value"),
    "empty traffic": (changed(*TRAFFIC, to=[]), "should have at least 1 items"),
    "too many versions": (
        changed(*TRAFFIC, to=[{"version": n + 1, "percent": 100 if n == 0 else 0} for n in range(33)]),
        "must have at most 32 items",
    ),
    "no model": (changed("spec", "model"), "Required value"),
    "an empty model": (changed("spec", "model", to=""), "at least 1 chars long"),
    "no spec": (changed("spec"), "Required value"),
    "version 0": (changed(*TRAFFIC, 0, "version", to=0), "greater than or equal to 1"),
    "a version of 16 digits": (changed(*TRAFFIC, 0, "version", to=10**15), "less than or equal to"),
    "a percent as text": (changed(*TRAFFIC, 0, "percent", to="95"), "must be of type integer"),
    "a negative percent": (changed(*TRAFFIC, 0, "percent", to=-5), "greater than or equal to 0"),
    "a percent above 100": (changed(*TRAFFIC, 0, "percent", to=101), "less than or equal to 100"),
    "a share without a percent": (changed(*TRAFFIC, 1, "percent"), "Required value"),
    "an alias of version 0": (changed("spec", "aliases", to={"a": 0}), "greater than or equal to 1"),
    "an alias of a version below 0": (changed("spec", "aliases", to={"a": -1}), "greater than or equal to 1"),
    "an alias of a version of 16 digits": (changed("spec", "aliases", to={"a": 10**15}), "less than or equal to"),
    "an alias of a version as text": (changed("spec", "aliases", to={"a": "3"}), "must be of type integer"),
    "an alias of a fraction": (changed("spec", "aliases", to={"a": 3.5}), "must be of type integer"),
    "an alias of nothing in particular": (changed("spec", "aliases", to={"a": {}}), "must be of type integer"),
    "aliases as a list": (changed("spec", "aliases", to=["a"]), "must be of type object"),
    "too many aliases": (
        changed("spec", "aliases", to={f"a{n}": 3 for n in range(65)}),
        "must have at most 64 items",
    ),
    "a pin that is no truth": (changed("spec", "placement", to={"pin": "yes"}), "must be of type boolean"),
    "negative replicas": (changed("spec", "placement", to={"minReplicas": -1}), "greater than or equal to 0"),
    "no replicas at most": (changed("spec", "placement", to={"maxReplicas": 0}), "greater than or equal to 1"),
    "memory in no unit": (changed("spec", "placement", to={"memory": "300MB"}), "should match"),
    "memory as a number": (changed("spec", "placement", to={"memory": 300}), "must be of type string"),
    "no memory": (changed("spec", "placement", to={"memory": "0Mi"}), "should match"),
    "a release without a name": (changed("spec", "release", to=""), "should match"),
    "a release that is no name of an object": (changed("spec", "release", to="Blue_1"), "should match"),
}
UNKNOWN_FIELDS = {  # kubectl asks for strict validation, which refuses what the definition does not know
    "an unknown field": changed("spec", "weight", to=3),
    "an unknown field of a share": changed(*TRAFFIC, 0, "weight", to=3),
    "an unknown field of placement": changed("spec", "placement", to={"pinned": True}),
}
FINE = {
    "as small as can be": changed(*TRAFFIC, to=[{"version": 1, "percent": 100}]),
    "a dark launch": changed(*TRAFFIC, to=[{"version": 1, "percent": 100}, {"version": 2, "percent": 0}]),
    "placement": changed("spec", "placement", to={"pin": True, "minReplicas": 2, "maxReplicas": 2, "memory": "300Mi"}),
    "memory in bytes": changed("spec", "placement", to={"memory": "300000000"}),
    "memory as a fraction": changed("spec", "placement", to={"memory": "1.5Gi"}),
    "32 versions": changed(*TRAFFIC, to=[{"version": n + 1, "percent": 100 if n == 0 else 0} for n in range(32)]),
    "no placement at all": changed("spec", "placement", to={}),
    "a release": changed("spec", "release", to="blue"),
    "no aliases at all": changed("spec", "aliases", to={}),
    "64 aliases": changed("spec", "aliases", to={f"a{n}": 3 for n in range(64)}),
    "names of aliases": changed("spec", "aliases", to={"production": 3, "Blue_2": 3, "-": 4, "v1-a": 9, "a" * 255: 9}),
}
