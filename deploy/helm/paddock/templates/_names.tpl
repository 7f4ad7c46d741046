{{- define "paddock.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What selects a component's pods: (dict "root" $ "component" "server"). */}}
{{- define "paddock.selector" -}}
app.kubernetes.io/name: paddock
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "paddock.labels" -}}
{{ include "paddock.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "paddock.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{- define "paddock.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "paddock.podSecurity" -}}
runAsNonRoot: true
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "paddock.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* "true" where the catalog is a database. */}}
{{- define "paddock.shared" -}}
{{- if or .Values.catalog.url .Values.inCluster.postgres.enabled }}true{{ end -}}
{{- end -}}

{{- define "paddock.replicas" -}}
{{- if kindIs "invalid" .Values.server.replicas -}}
{{- ternary 2 1 (eq (include "paddock.shared" .) "true") -}}
{{- else -}}
{{- .Values.server.replicas -}}
{{- end -}}
{{- end -}}

{{- define "paddock.catalogSecret" -}}
{{- if .Values.catalog.existingSecret -}}
{{ .Values.catalog.existingSecret }}
{{- else if or .Values.catalog.password .Values.inCluster.postgres.enabled -}}
{{ include "paddock.fullname" . }}-catalog
{{- end -}}
{{- end -}}

{{- define "paddock.storageSecret" -}}
{{- if .Values.storage.existingSecret -}}
{{ .Values.storage.existingSecret }}
{{- else if or .Values.storage.credentials .Values.inCluster.s3.enabled -}}
{{ include "paddock.fullname" . }}-storage
{{- end -}}
{{- end -}}

{{/* A password that an earlier install made, the one that is given, or a new one: (dict "root" $ "secret" NAME "key" KEY "given" TEXT) */}}
{{- define "paddock.keptPassword" -}}
{{- $found := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- if .given -}}
{{ .given }}
{{- else if and $found (index (default dict $found.data) .key) -}}
{{ index $found.data .key | b64dec }}
{{- else -}}
{{ randAlphaNum 32 }}
{{- end -}}
{{- end -}}

{{- define "paddock.check" -}}
{{- if and (ne (include "paddock.shared" .) "true") (gt (int (include "paddock.replicas" .)) 1) -}}
{{- fail "server.replicas: a home on a volume has one server; name a database with catalog.url, or set server.replicas to 1" -}}
{{- end -}}
{{- if and (eq (include "paddock.shared" .) "true") (not .Values.storage.url) (not .Values.inCluster.s3.enabled) -}}
{{- fail "storage.url: servers that share a catalog need a place for bulk data that all of them reach, such as s3://BUCKET/PREFIX" -}}
{{- end -}}
{{- if and .Values.catalog.url .Values.inCluster.postgres.enabled -}}
{{- fail "catalog.url and inCluster.postgres.enabled exclude each other; a home has one catalog" -}}
{{- end -}}
{{- if and .Values.networkPolicy.isolateWorkers .Values.workers.storageSecret -}}
{{- fail "networkPolicy.isolateWorkers and workers.storageSecret exclude each other; isolated workers reach the servers only" -}}
{{- end -}}
{{- if and .Values.storage.url .Values.inCluster.s3.enabled -}}
{{- fail "storage.url and inCluster.s3.enabled exclude each other; a home has one place for its data" -}}
{{- end -}}
{{- end -}}
