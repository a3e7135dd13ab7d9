{{/* Jobs: one Deployment that accepts jobs, and one of workers if there are any. Both run `python -m jobs`; a worker has no
Service but that of its metrics. */}}

{{/* Arguments: root, lane. */}}
{{- define "triptych.jobs-pod" -}}
{{ include "triptych.pod-of-jobs" (merge (dict "stage" "jobs" "component" "jobs") .) }}
{{- end }}
{{- define "triptych.jobs-worker-pod" -}}
{{ include "triptych.pod-of-jobs" (merge (dict "stage" "jobs-worker" "component" "jobs-worker") .) }}
{{- end }}

{{/* Arguments: root, lane, stage, component. */}}
{{- define "triptych.pod-of-jobs" -}}
{{ include "triptych.pod-fields" . }}
containers:
  - {{ include "triptych.python-container" (merge (dict "container" .component) .) | indent 4 | trim }}
{{- include "triptych.pod-volumes" . }}
{{- end }}

{{/* Not empty if workers run in pods of their own. Argument: values. */}}
{{- define "triptych.jobs-workers-are-apart" -}}
{{- $workers := .values.jobs.workers -}}
{{- if or (gt (int $workers.replicas) 0) (gt (int $workers.autoscaling.maxReplicas) 0) }}yes{{ end -}}
{{- end }}

{{/* The values of the workers as JSON: their own, and image and settings of jobs. Argument: values. */}}
{{- define "triptych.jobs-worker-values" -}}
{{- $jobs := .values.jobs -}}
{{- $workers := deepCopy $jobs.workers -}}
{{- $_ := set $workers "image" $jobs.image -}}
{{- $_ := set $workers "settings" (merge dict ($workers.settings | default dict) ($jobs.settings | default dict)) -}}
{{- $_ := set $workers.autoscaling "signal" "parts" -}}
{{- toJson $workers -}}
{{- end }}

{{/* What lies in files of the pod: "ledger", "objects", both or nothing. Argument: lane. */}}
{{- define "triptych.jobs-files" -}}
{{- $jobs := .lane.values.jobs -}}
{{- $files := list -}}
{{- if not $jobs.ledger.secret }}{{ $files = append $files "ledger" }}{{ end -}}
{{- if not $jobs.objects }}{{ $files = append $files "objects" }}{{ end -}}
{{ join " and " $files }}
{{- end }}

{{/* The settings that the chart makes, as JSON. Arguments: root, lane, stage. */}}
{{- define "triptych.jobs-settings" -}}
{{- $jobs := .lane.values.jobs -}}
{{- $settings := dict
      "objects" ($jobs.objects | default "/data/objects")
      "preprocess" (include "triptych.balanced-preprocess" .) -}}
{{- if not $jobs.ledger.secret }}{{ $_ := set $settings "ledger" "sqlite:////data/jobs.db" }}{{ end -}}
{{- with $jobs.sources }}{{ $_ := set $settings "sources" (join "," .) }}{{ end -}}
{{- if include "triptych.jobs-workers-are-apart" .lane -}}
{{- $workers := index .lane.values "jobs-worker" -}}
{{- $most := max (int $workers.replicas) (int $workers.autoscaling.maxReplicas) -}}
{{- $_ := set $settings "total_parallel_parts" (mul $most (int (get $workers.settings "parallel_parts" | default 2))) -}}
{{- if eq .stage "jobs" }}{{ $_ := set $settings "parallel_parts" 0 }}{{ end -}}
{{- end -}}
{{- toJson $settings }}
{{- end }}
{{- define "triptych.jobs-worker-settings" }}{{ include "triptych.jobs-settings" . }}{{ end }}

{{/* The variables with a password or a key. Arguments: root, lane. */}}
{{- define "triptych.jobs-secrets" -}}
{{- $ledger := .lane.values.jobs.ledger -}}
{{- if $ledger.secret }}
- {name: JOBS_LEDGER, valueFrom: {secretKeyRef: {name: {{ $ledger.secret | quote }}, key: {{ $ledger.key | quote }}}}}
{{- end }}
{{- include "triptych.s3-env" . }}
{{- end }}

{{/* The usual variables of S3. Argument: lane. */}}
{{- define "triptych.s3-env" -}}
{{- $s3 := .lane.values.jobs.s3 -}}
{{- if $s3.secret }}
{{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- {name: {{ . }}, valueFrom: {secretKeyRef: {name: {{ $s3.secret | quote }}, key: {{ . }}}}}
{{- end }}
{{- end }}
{{- with $s3.endpoint }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- with $s3.region }}
- {name: AWS_REGION, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{- define "triptych.jobs-env" }}{{ include "triptych.python-env" . }}{{ end }}
{{- define "triptych.jobs-worker-env" }}{{ include "triptych.python-env" . }}{{ end }}

{{/* Argument: lane. */}}
{{- define "triptych.jobs-mounts" -}}
{{- if include "triptych.jobs-files" . }}
- {name: data, mountPath: /data}
{{- end }}
{{- with include "triptych.tls-mount" . }}
{{ . }}
{{- end }}
{{- end }}
{{- define "triptych.jobs-worker-mounts" }}{{ include "triptych.jobs-mounts" . }}{{ end }}

{{/* Argument: lane. */}}
{{- define "triptych.jobs-volumes" -}}
{{- if include "triptych.jobs-files" . }}
- {name: data, {{ with .lane.values.jobs.claim }}persistentVolumeClaim: {claimName: {{ . | quote }}}{{ else }}emptyDir: {}{{ end }}}
{{- end }}
{{- with include "triptych.tls-volume" . }}
{{ . }}
{{- end }}
{{- end }}
{{- define "triptych.jobs-worker-volumes" }}{{ include "triptych.jobs-volumes" . }}{{ end }}
