{{/* The model repository, at /models of the predictor and of the repository. */}}

{{- define "triptych.models-mount" -}}
{{- if eq .Values.models.store "pvc" -}}
- {name: models, mountPath: /models, readOnly: true{{ with .Values.models.path }}, subPath: {{ . }}{{ end }}}
{{- else -}}
- {name: models, mountPath: /models, readOnly: true}
{{- end }}
{{- end }}

{{- define "triptych.models-volume" -}}
{{- if eq .Values.models.store "pvc" -}}
- {name: models, persistentVolumeClaim: {claimName: {{ .Values.models.claim }}, readOnly: true}}
{{- else -}}
- {name: models, emptyDir: {}}
{{- if ne .Values.models.store "image" }}
- {name: models-tmp, emptyDir: {}}
{{- end }}
{{- end }}
{{- end }}

{{/* Fills the folder before anything else starts. */}}
{{- define "triptych.models-init" -}}
{{- $models := .Values.models -}}
{{- if ne $models.store "pvc" }}
initContainers:
  - name: models
    {{- if eq $models.store "image" }}
    image: {{ include "triptych.image" (list . $models.image) }}
    command: [cp, -R, /models/., /target]
    {{- else }}
    image: {{ $models.initializer }}
    args: [{{ $models.uri | quote }}, /target]
    env:
      # The root is read-only.
      - {name: HOME, value: /tmp}
    {{- with $models.secret }}
    envFrom:
      - secretRef: {name: {{ . }}}
    {{- end }}
    {{- end }}
    imagePullPolicy: {{ .Values.imagePullPolicy }}
    resources:
      requests: {cpu: 10m, memory: 64Mi}
      limits: {memory: 1Gi}
    securityContext:
      {{- include "triptych.container-security" . | nindent 6 }}
    volumeMounts:
      - {name: models, mountPath: /target}
      {{- if ne $models.store "image" }}
      - {name: models-tmp, mountPath: /tmp}
      {{- end }}
{{- end }}
{{- end }}
