# The chart

```
helm install triptych helm/triptych                                          # KServe, CPU, example models
helm install triptych helm/triptych --set mode=Deployment                    # a cluster without KServe
helm install triptych helm/triptych -f helm/triptych/values-gpu.yaml         # NVIDIA's Triton
helm test triptych                                                           # one pod for each promise
```

The images are made by `make images`: preprocess and postprocess 466 MB each (of which they share 464), controller 560 MB, triton-cpu 436 MB, models 86 MB, backend 289 MB. From `helm install` to the first answer it takes 10 s where the images are, and 6 s from zero pods of preprocess and postprocess in Knative mode (2 busy cores, 2026-11-21). Without Helm: `kubectl apply -k manifests/standard`, which is this chart rendered.

## What it makes

| stage | Standard, Knative | Deployment | Grouped |
|---|---|---|---|
| preprocess | InferenceService `preprocess` | Deployment `preprocess` | InferenceService `grouped`, pods with Triton and preprocess |
| predictor | InferenceService `predictor`, always in Standard mode | Deployment `predictor` | |
| postprocess | InferenceService `postprocess` | Deployment `postprocess` | |
| controller | Deployment `controller` | the same | the same |

With `backend.enabled` there is Deployment `backend` in front of them, with HTTP on port 8080: [examples/backend](../../examples/backend). With `canary.enabled` the stages that differ run a second time as `preprocess-canary` and so on: [docs/guides/canary.md](../../docs/guides/canary.md).

KServe names the Deployment of InferenceService `preprocess` `preprocess-predictor`. Callers use Service `preprocess`, port 9000; in Knative mode `preprocess-predictor.NAMESPACE`, port 80. Between the stages Services are headless, and clients use all pods.

The definition of ServedModel in `crds/` is installed once and stays: Helm neither updates nor deletes it, because all ServedModels of the cluster would go with it. Update: `kubectl apply --server-side -f helm/triptych/crds`. Delete: `kubectl delete -f helm/triptych/crds`.

Models in an image are copied when a pod starts, so a new version needs another image. In a volume (`models.store: pvc`) it is seen within seconds, in an object store (`s3`, `gs`) within twice `models.everySeconds`: each Triton has a sidecar that keeps a folder in step with the store, and what is there is served while the store is away (`services/controller/README.md`).

## Values

Generated from the comments of `values.yaml` (`make chart`), like `values.schema.json`, which refuses a value that does not exist.

{values}
