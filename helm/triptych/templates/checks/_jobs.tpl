{{/* Jobs and scheduled batches. Arguments of each: root, lane. */}}

{{- define "triptych.check-jobs" -}}
{{- $jobs := .lane.values.jobs -}}
{{- $apart := include "triptych.jobs-workers-are-apart" .lane -}}
{{- $files := include "triptych.jobs-files" . -}}
{{- if $jobs.enabled }}
{{- if and $files (or $apart (gt (int $jobs.replicas) 1)) }}
{{- $which := ternary "jobs.replicas is more than 1" "jobs.workers has pods of their own" (not $apart) -}}
{{- if not $jobs.ledger.secret }}
{{- fail (printf "%s and jobs.ledger.secret is empty: the ledger is SQLite in a file then, which one pod has alone; name a Secret with the URL of a Postgres, or set jobs.replicas: 1 and no jobs.workers" $which) }}
{{- end }}
{{- fail (printf "%s and jobs.objects is empty: answers are in a folder then, which one pod has alone; name a bucket, as in s3://bucket/jobs, or set jobs.replicas: 1 and no jobs.workers" $which) }}
{{- end }}
{{- if and $jobs.claim (not $files) }}
{{- fail "jobs.claim is set, and neither the ledger nor the objects are files: leave it out, or leave jobs.ledger.secret or jobs.objects out" }}
{{- end }}
{{- range $jobs.sources }}
{{- if contains "," . }}
{{- fail (printf "jobs.sources has %q: a comma separates two sources; make it two entries" .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- define "triptych.check-batches" -}}
{{- $names := list -}}
{{- range .lane.values.batches | default list }}
{{- $batch := include "triptych.batch" (dict "batch" .) | fromJson -}}
{{- $write := $batch.document.write | default dict -}}
{{- if has $batch.name $names }}
{{- fail (printf "batches has %s more than once: give each a name of its own" $batch.name) }}
{{- end }}
{{- $names = append $names $batch.name -}}
{{- range list "apiVersion" "kind" "home" }}
{{- if hasKey $batch.document . }}
{{- fail (printf "batches: the document of %s has %s, which the chart sets itself: leave it out" $batch.name .) }}
{{- end }}
{{- end }}
{{- if and (not $write) (not $.lane.values.jobs.enabled) }}
{{- fail (printf "batches: %s has no document.write and jobs.enabled is false: a batch without it is a job; set jobs.enabled, or say where to write" $batch.name) }}
{{- end }}
{{- if and $write.parquet (not $batch.claim) }}
{{- fail (printf "batches: %s writes Parquet to %s and has no claim: the output would go with the pod; name a PersistentVolumeClaim" $batch.name $write.parquet) }}
{{- end }}
{{- if and $batch.claim (not $write) }}
{{- fail (printf "batches: %s has a claim and no document.write: its rows are read by jobs, which has no such volume; read from jobs.sources" $batch.name) }}
{{- end }}
{{- $arguments := dict "root" $.root "lane" $.lane "stage" "batch" "component" "batch" "batch" $batch -}}
{{- include "triptych.check-env" $arguments }}
{{- include "triptych.check-labels" $arguments }}
{{- include "triptych.check-volumes" $arguments }}
{{- end }}
{{- end }}
