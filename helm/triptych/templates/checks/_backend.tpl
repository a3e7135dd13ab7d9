{{/* The example of a backend. Arguments: root, lane. */}}
{{- define "triptych.check-backend" -}}
{{- $features := .lane.values.backend.features -}}
{{- $url := $features.url | default "" -}}
{{- if .lane.values.backend.enabled }}
{{- if and (eq $features.store "embedded") (or $url $features.secret $features.service) }}
{{- fail "backend.features.url, secret and service are for the stores redis and feast, and backend.features.store is embedded" }}
{{- end }}
{{- if and $features.articles (ne $features.store "embedded") }}
{{- fail (printf "backend.features.articles is for the embedded store, and backend.features.store is %s" $features.store) }}
{{- end }}
{{- if and (eq $features.store "redis") (eq (empty $url) (empty $features.secret)) }}
{{- fail "backend.features.store is redis: give backend.features.url, or backend.features.secret where the URL has a password" }}
{{- end }}
{{- if and (eq $features.store "redis") $features.service }}
{{- fail "backend.features.service is for store feast, and backend.features.store is redis" }}
{{- end }}
{{- if and (eq $features.store "redis") $url (not (hasPrefix "redis" $url)) }}
{{- fail (printf "backend.features.store is redis: backend.features.url has to begin with redis://, got %q" $url) }}
{{- end }}
{{- if and (eq $features.store "feast") (or (not (hasPrefix "http" $url)) (not $features.service) $features.secret) }}
{{- fail "backend.features.store is feast: give backend.features.url, as in http://feast:6566, and backend.features.service, and no secret" }}
{{- end }}
{{- end }}
{{- end }}
