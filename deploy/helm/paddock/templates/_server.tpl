{{/* The variables of a server, and of what works on its home. */}}
{{- define "paddock.environment" -}}
{{- $name := include "paddock.fullname" . -}}
{{- if eq (include "paddock.shared" .) "true" -}}
- name: PADDOCK_CATALOG
  value: {{ if .Values.inCluster.postgres.enabled }}{{ printf "postgresql://paddock@%s-postgres/paddock" $name }}{{ else }}{{ .Values.catalog.url | quote }}{{ end }}
{{- else -}}
- name: PADDOCK_HOME
  value: /var/lib/paddock/home
{{- end }}
{{- if .Values.inCluster.s3.enabled }}
- name: PADDOCK_STORAGE
  value: s3://paddock/home
- name: AWS_ENDPOINT_URL
  value: http://{{ $name }}-s3:8333
- name: AWS_REGION
  value: us-east-1
{{- else if .Values.storage.url }}
- name: PADDOCK_STORAGE
  value: {{ .Values.storage.url | quote }}
{{- end }}
{{- range $variable, $value := .Values.storage.env }}
- name: {{ $variable }}
  value: {{ $value | quote }}
{{- end }}
- name: XDG_CACHE_HOME
  value: /var/lib/paddock/cache
- name: PADDOCK_ENGINE
  value: {{ .Values.workers.defaultEngine }}
- name: PADDOCK_WORKER_URL
  value: http://{{ $name }}:{{ .Values.server.port }}
- name: PADDOCK_WORKER_IMAGE
  value: {{ include "paddock.image" . }}
{{- with .Values.workers.userImage }}
- name: PADDOCK_USER_IMAGE
  value: {{ . }}
{{- end }}
- name: PADDOCK_IMAGE_PULL_POLICY
  value: {{ default .Values.image.pullPolicy .Values.workers.pullPolicy }}
{{- with .Values.imagePullSecrets }}
- name: PADDOCK_IMAGE_PULL_SECRETS
  value: {{ join "," . }}
{{- end }}
- name: PADDOCK_WORKER_CPU
  value: {{ .Values.workers.cpu | quote }}
- name: PADDOCK_POD_SECURITY
  value: {{ .Values.workers.podSecurity }}
{{- with .Values.workers.storageSecret }}
- name: PADDOCK_WORKER_STORAGE_SECRET
  value: {{ . }}
{{- end }}
- name: PADDOCK_KUBERNETES_OWNER
  value: {{ $name }}
{{- with .Values.server.env }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "paddock.environmentFrom" -}}
{{- $catalog := include "paddock.catalogSecret" . -}}
{{- $storage := include "paddock.storageSecret" . -}}
{{- if or $catalog $storage .Values.server.envFrom -}}
envFrom:
{{- with $catalog }}
  - secretRef:
      name: {{ . }}
{{- end }}
{{- with $storage }}
  - secretRef:
      name: {{ . }}
{{- end }}
{{- with .Values.server.envFrom }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "paddock.mounts" -}}
- name: home
  mountPath: /var/lib/paddock
- name: tmp
  mountPath: /tmp
{{- end -}}
