{{/*
The pod of a scheduled batch. It submits the document to jobs and waits; one that says where to write runs here, by
`triptych batch run`. The document is an annotation of the pod, and so of the Job: an upgrade does not change it for the
pod that takes over.
*/}}

{{/* A batch with its defaults, as JSON. Argument: batch, of the values. */}}
{{- define "triptych.batch" -}}
{{- $defaults := dict "timeZone" "Etc/UTC" "concurrencyPolicy" "Forbid" "suspend" false "deadlineSeconds" 86400 "claim" "" -}}
{{- $given := dict -}}
{{- range $name, $value := .batch }}{{ if not (kindIs "invalid" $value) }}{{ $_ := set $given $name $value }}{{ end }}{{ end -}}
{{- toJson (merge $given $defaults) -}}
{{- end }}

{{/* Not empty if a batch writes by itself. Argument: batch. */}}
{{- define "triptych.batch-writes" -}}
{{- if .batch.document.write }}yes{{ end -}}
{{- end }}

{{/* The whole document as JSON. Arguments: root, lane, batch. */}}
{{- define "triptych.batch-document" -}}
{{- $document := deepCopy .batch.document -}}
{{- $_ := set $document "apiVersion" "triptych.dev/v1" -}}
{{- $_ := set $document "kind" (ternary "Batch" "Job" (not (not (include "triptych.batch-writes" .)))) -}}
{{- if include "triptych.batch-writes" . -}}
{{- $home := dict "address" (include "triptych.balanced-preprocess" .) -}}
{{- $mode := .lane.values.tls.mode -}}
{{- if ne $mode "none" -}}
{{- $tls := dict "ca" "/tls/ca.crt" -}}
{{- if eq $mode "mutual" }}{{ $tls = merge $tls (dict "certificate" "/tls/tls.crt" "key" "/tls/tls.key") }}{{ end -}}
{{- $_ := set $home "tls" $tls -}}
{{- end -}}
{{- $_ := set $document "home" $home -}}
{{- end -}}
{{- toJson $document -}}
{{- end }}

{{/* The CronJob of a batch. Arguments: root, lane, component, batch. */}}
{{- define "triptych.batch-cronjob" -}}
{{- $batch := .batch -}}
{{- $writes := include "triptych.batch-writes" . -}}
apiVersion: batch/v1
kind: CronJob
metadata:
  {{- include "triptych.metadata" (merge (dict "name" (printf "batch-%s" $batch.name)) .) | nindent 2 }}
spec:
  schedule: {{ $batch.schedule | quote }}
  timeZone: {{ $batch.timeZone | quote }}
  concurrencyPolicy: {{ $batch.concurrencyPolicy }}
  suspend: {{ $batch.suspend }}
  jobTemplate:
    spec:
      # A job that misses the deadline has failed; its pod has a minute to say so.
      activeDeadlineSeconds: {{ add (int $batch.deadlineSeconds) (ternary 0 60 (not (not $writes))) }}
      backoffLimit: 5
      podFailurePolicy:
        rules:
          # A wrong document, or a job that has failed: another pod would find the same.
          - {action: FailJob, onExitCodes: {containerName: batch, operator: In, values: [2, 3]}}
          - {action: Ignore, onPodConditions: [{type: DisruptionTarget}]}
      template:
        metadata:
          labels:
            {{- include "triptych.pod-labels" . | nindent 12 }}
          annotations:
            {{- include "triptych.batch-annotations" . | nindent 12 }}
        spec:
          {{- include "triptych.batch-pod" . | nindent 10 }}
{{- end }}

{{/* Arguments: root, lane, batch. */}}
{{- define "triptych.batch-annotations" -}}
{{- $annotations := dict "triptych.dev/document" (include "triptych.batch-document" .) -}}
{{- if not .batch.claim }}
{{- /* The cluster autoscaler keeps a node for the files of its pods; here they are none to keep. */ -}}
{{- $_ := set $annotations "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes" "data" -}}
{{- end -}}
{{- toYaml (merge dict .lane.pods.batch.podAnnotations $annotations) -}}
{{- end }}

{{/* Arguments: root, lane, component, batch. */}}
{{- define "triptych.batch-pod" -}}
restartPolicy: Never
serviceAccountName: {{ include "triptych.name" (dict "lane" .lane "name" "batch") }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- include "triptych.pull-secrets" . }}
{{- include "triptych.placement" . }}
{{- include "triptych.names-of-hosts" . }}
{{- include "triptych.pod-security" . }}
{{- include "triptych.classes" . }}
containers:
  - {{ include "triptych.batch-container" . | indent 4 | trim }}
{{- include "triptych.pod-volumes" . }}
{{- end }}

{{- define "triptych.batch-container" -}}
{{- $arguments := merge (dict "stage" "batch") . -}}
name: batch
image: {{ include "triptych.image" (dict "root" .root "lane" .lane "image" .lane.values.jobs.image) | quote }}
imagePullPolicy: {{ .lane.values.imagePullPolicy }}
{{- if include "triptych.batch-writes" . }}
command: [triptych, batch, run, {{ .batch.name }}.yaml, --replace]
{{- else }}
command: [triptych, jobs, submit, {{ .batch.name }}.yaml, --wait]
args:
  {{- include "triptych.batch-submission" . | nindent 2 }}
{{- end }}
workingDir: /data
{{- include "triptych.container-env" $arguments }}
{{- include "triptych.container-resources" $arguments }}
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- include "triptych.container-security" . | nindent 2 }}
{{- include "triptych.container-mounts" $arguments }}
{{- end }}

{{/* The options of a submission. The name of the Job has the time that it was scheduled for, so a pod that takes over
submits the same job. Arguments: root, lane, batch. */}}
{{- define "triptych.batch-submission" -}}
{{- $mode := .lane.values.tls.mode -}}
- --address={{ include "triptych.address" (dict "root" .root "lane" .lane "stage" "jobs") }}
- --request-id={{ .root.Release.Namespace }}/$(JOB_NAME)
- --deadline={{ int .batch.deadlineSeconds }}
- --retry=10m
{{- if ne $mode "none" }}
- --ca=/tls/ca.crt
{{- end }}
{{- if eq $mode "mutual" }}
- --cert=/tls/tls.crt
- --key=/tls/tls.key
{{- end }}
{{- end }}

{{- define "triptych.batch-env" -}}
{{- if include "triptych.batch-writes" . }}
{{- include "triptych.s3-env" . }}
{{- else }}
- {name: JOB_NAME, valueFrom: {fieldRef: {apiVersion: v1, fieldPath: "metadata.labels['batch.kubernetes.io/job-name']"}}}
{{- end }}
{{- end }}

{{- define "triptych.batch-mounts" -}}
- {name: data, mountPath: /data}
- {name: document, mountPath: /data/{{ .batch.name }}.yaml, subPath: document.yaml, readOnly: true}
{{- with include "triptych.tls-mount" . }}
{{ . }}
{{- end }}
{{- end }}

{{- define "triptych.batch-volumes" -}}
- {name: data, {{ with .batch.claim }}persistentVolumeClaim: {claimName: {{ . | quote }}}{{ else }}emptyDir: {}{{ end }}}
- {name: document, downwardAPI: {items: [{path: document.yaml, fieldRef: {apiVersion: v1, fieldPath: "metadata.annotations['triptych.dev/document']"}}]}}
{{- with include "triptych.tls-caller-volume" . }}
{{ . }}
{{- end }}
{{- end }}
