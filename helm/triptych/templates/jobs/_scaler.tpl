{{/*
The ScaledObject of the workers. KEDA reads the number of open parts from the metrics of the API, which counts them in the
ledger; so it needs neither a Prometheus nor the password of the ledger. Arguments: root, lane, stage, component.
*/}}
{{- define "triptych.jobs-scaler" -}}
{{- $workers := index .lane.values "jobs-worker" -}}
{{- $after := int $workers.autoscaling.scaleDownAfterSeconds -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  {{- include "triptych.metadata" . | nindent 2 }}
spec:
  scaleTargetRef: {name: {{ include "triptych.deployment" . }}}
  minReplicaCount: {{ int $workers.replicas }}
  maxReplicaCount: {{ int $workers.autoscaling.maxReplicas }}
  pollingInterval: 5
  cooldownPeriod: {{ $after }}
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown: {stabilizationWindowSeconds: {{ $after }}}
  triggers:
    - type: metrics-api
      # AverageValue: the parts, divided by the number of workers.
      metricType: AverageValue
      metadata:
        url: http://{{ include "triptych.name" (dict "lane" .lane "name" "jobs") }}.{{ .root.Release.Namespace }}.svc:{{ include "triptych.metrics-port" (dict "stage" "jobs") }}/metrics
        format: prometheus
        valueLocation: triptych_jobs_open_parts
        targetValue: {{ int $workers.autoscaling.partsPerReplica | quote }}
{{- end }}
