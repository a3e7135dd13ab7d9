# The chart

```
helm install triptych helm/triptych                                          # KServe, CPU, example models
helm install triptych helm/triptych --set mode=Deployment                    # a cluster without KServe
helm install triptych helm/triptych -f helm/triptych/values-gpu.yaml         # NVIDIA's Triton
helm test triptych                                                           # one pod for each check
```

`make images` builds the images: preprocess and postprocess 466 MB each (of which they share 464), controller 560 MB, jobs 804 MB, triton-cpu 436 MB, models 86 MB, backend 289 MB. If the images are on the nodes, the first answer comes 10 s after `helm install`. From zero pods of preprocess and postprocess in Knative mode it comes after 6 s (2 busy cores, 2026-11-21). `kubectl apply -k manifests/standard` installs the same without Helm: this chart, rendered.

## Objects

| stage | Standard, Knative | Deployment | Grouped |
|---|---|---|---|
| preprocess | InferenceService `preprocess` | Deployment `preprocess` | InferenceService `grouped`, pods with Triton and preprocess |
| predictor | InferenceService `predictor`, always in Standard mode | Deployment `predictor` | |
| postprocess | InferenceService `postprocess` | Deployment `postprocess` | |
| controller | Deployment `controller` | the same | the same |

With `backend.enabled` there is also Deployment `backend`, HTTP on port 8080: [examples/backend](../../examples/backend). With `canary.enabled` the stages that differ run a second time, as `preprocess-canary` and so on: [docs/guides/canary.md](../../docs/guides/canary.md).

KServe names the Deployment of InferenceService `preprocess` `preprocess-predictor`. Callers use Service `preprocess`, port 9000; in Knative mode `preprocess-predictor.NAMESPACE`, port 80. Services between the stages are headless, and clients use all pods.

Helm 3 installs the definition of ServedModel in `crds/` once, Helm 4 writes it at each install. Neither updates it with an upgrade, nor deletes it, because all ServedModels of the cluster would be deleted with it. Update: `kubectl apply -f helm/triptych/crds`. Delete: `kubectl delete -f helm/triptych/crds`. [Teams](../../docs/guides/operations.md#install-as-a-team) install without it.

With `readinessHook.enabled` a pod `readiness-hook` waits after an install or upgrade; Helm deletes it.

Models in an image are copied when a pod starts, so a new version needs another image. A new version in a volume (`models.store: pvc`) is seen within seconds, one in an object store (`s3`, `gs`) within twice `models.pollSeconds`. A sidecar of each Triton keeps a folder in step with the store. If the store is unreachable, the models in that folder are served (`services/controller/README.md`).

## Values

`make chart` generates this table from the comments of `values.yaml`, and `values.schema.json`, which refuses an unknown value. Null is the same as empty where the table gives empty a meaning, and none for `resources`; any other null is refused. An empty mapping changes nothing, because Helm merges mappings.

Quote a text that YAML reads as something else, as in `"1.10"` or `"0755"`: Helm turns it into 1.1 or 493 before the chart sees it. Labels, annotations and variables take texts alone. Keys at the top that begin with `x-` or a dot have no effect; they are a place for anchors.

**Inside of a parent chart**, `triptych.enabled` works as `condition`. Of `global` the chart reads `imageRegistry`, where `registry` is empty, and `imagePullSecrets`, beside its own. Two of the chart need an `alias` and a `fullnameOverride` each.

{values}
