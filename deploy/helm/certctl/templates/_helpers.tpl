{{/* Names */}}
{{- define "certctl.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "certctl.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "certctl.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "certctl.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "certctl.server" -}}{{ include "certctl.fullname" . }}-server{{- end -}}
{{- define "certctl.agent" -}}{{ include "certctl.fullname" . }}-agent{{- end -}}
{{- define "certctl.postgres" -}}{{ include "certctl.fullname" . }}-postgres{{- end -}}
{{- define "certctl.backup" -}}{{ include "certctl.fullname" . }}-backup{{- end -}}
{{- define "certctl.hook" -}}{{ include "certctl.fullname" . }}-migrate{{- end -}}
{{- define "certctl.serverHost" -}}{{ include "certctl.server" . }}.{{ .Release.Namespace }}.svc{{- end -}}

{{- define "certctl.serverSecret" -}}
{{- .Values.existingSecret | default (include "certctl.server" .) -}}
{{- end -}}

{{- define "certctl.postgresSecret" -}}
{{- .Values.postgresql.auth.existingSecret | default (include "certctl.postgres" .) -}}
{{- end -}}

{{- define "certctl.databaseSecret" -}}
{{- .Values.externalDatabase.existingSecret | default (printf "%s-database" (include "certctl.fullname" .)) -}}
{{- end -}}

{{- define "certctl.tlsSecret" -}}
{{- with .Values.server.tls -}}
{{- if .existingSecret -}}{{ .existingSecret }}
{{- else if and .certManager.enabled .certManager.secretName -}}{{ .certManager.secretName }}
{{- else -}}{{ include "certctl.fullname" $ }}-tls
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the CA that agents trust; empty when they trust their image's */}}
{{- define "certctl.caSecret" -}}
{{- if .Values.server.tls.caKey -}}
{{- .Values.agent.caSecret | default (include "certctl.tlsSecret" .) -}}
{{- end -}}
{{- end -}}

{{- define "certctl.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}{{ .Values.serviceAccount.name | default (include "certctl.fullname" .) }}
{{- else -}}{{ .Values.serviceAccount.name | default "default" }}
{{- end -}}
{{- end -}}

{{- define "certctl.agentServiceAccount" -}}
{{- if .Values.serviceAccount.create -}}{{ include "certctl.agent" . }}{{- else -}}default{{- end -}}
{{- end -}}

{{- define "certctl.serverImage" -}}
{{ .Values.server.image.repository }}:{{ .Values.server.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{/* Labels */}}
{{- define "certctl.selector" -}}
app.kubernetes.io/name: {{ include "certctl.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- define "certctl.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
app.kubernetes.io/part-of: certctl
{{ include "certctl.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "certctl.podLabels" -}}
{{ include "certctl.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A values' securityContext, written as the reference has it: one block, parted here into the pod's and the container's */}}
{{- define "certctl.podSecurity" -}}
{{ toYaml (pick . "runAsNonRoot" "runAsUser" "runAsGroup" "fsGroup" "supplementalGroups") }}
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "certctl.containerSecurity" -}}
{{ toYaml (omit . "fsGroup" "supplementalGroups" "seccompProfile") }}
{{- end -}}

{{/*
Everything that the chart makes by itself: made once a render (a hook's copy must be the same as the original), and
taken from the cluster when it is there already. Leaves it in $.made.
*/}}
{{- define "certctl.make" -}}
{{- if not (hasKey $ "made") -}}
{{- $made := dict -}}
{{- $present := get (lookup "v1" "Secret" .Release.Namespace (include "certctl.server" .) | default dict) "data" | default dict -}}
{{- range list "config-encryption-key" "bootstrap-token" "agent-bootstrap-token" -}}
{{- $_ := set $made . (get $present . | default (randAlphaNum 48 | b64enc)) -}}
{{- end -}}
{{- $postgres := get (lookup "v1" "Secret" .Release.Namespace (include "certctl.postgres" .) | default dict) "data" | default dict -}}
{{- $given := .Values.postgresql.auth.password -}}
{{- $_ := set $made "postgres-password" (ternary ($given | b64enc) (get $postgres "password" | default (randAlphaNum 32 | b64enc)) (ne $given "")) -}}
{{- include "certctl.makeTls" (dict "root" $ "made" $made) -}}
{{- $_ := set $ "made" $made -}}
{{- end -}}
{{- end -}}

{{/* A CA that only signs the control plane's own certificate; the certificate is signed anew once it is 180 days old */}}
{{- define "certctl.makeTls" -}}
{{- $root := .root -}}
{{- $name := printf "%s-tls" (include "certctl.fullname" $root) -}}
{{- $pair := lookup "v1" "Secret" $root.Release.Namespace $name | default dict -}}
{{- $data := get $pair "data" | default dict -}}
{{- $kept := get (lookup "v1" "Secret" $root.Release.Namespace (printf "%s-ca" $name) | default dict) "data" | default dict -}}
{{- $at := dig "metadata" "annotations" "certctl/made-at" "0" $pair | int64 -}}
{{- $names := list -}}
{{- range splitList " " (include "certctl.serverNames" $root) -}}{{- $names = append $names . -}}{{- end -}}
{{- $same := eq (dig "metadata" "annotations" "certctl/names" "" $pair) (join "," $names) -}}
{{- if and (get $data "tls.crt") (get $data "tls.key") (get $data "ca.crt") $same (lt (sub (now | unixEpoch | int64) $at) 15552000) -}}
{{- $_ := set .made "tls" (dict "ca.crt" (get $data "ca.crt") "tls.crt" (get $data "tls.crt") "tls.key" (get $data "tls.key") "at" ($at | toString)) -}}
{{- $_ := set .made "ca" (dict "ca.crt" (get $data "ca.crt") "ca.key" (get $kept "ca.key" | default "")) -}}
{{- else -}}
{{- $ca := dict -}}
{{- if and (get $kept "ca.crt") (get $kept "ca.key") -}}
{{- $ca = buildCustomCert (get $kept "ca.crt") (get $kept "ca.key") -}}
{{- else -}}
{{- $ca = genCAWithKey (printf "%s control plane" (include "certctl.fullname" $root)) 3650 (genPrivateKey "ecdsa") -}}
{{- end -}}
{{- $leaf := genSignedCertWithKey (first $names) (list "127.0.0.1") $names 825 $ca (genPrivateKey "ecdsa") -}}
{{- $_ := set .made "tls" (dict "ca.crt" ($ca.Cert | b64enc) "tls.crt" ($leaf.Cert | b64enc) "tls.key" ($leaf.Key | b64enc) "at" (now | unixEpoch)) -}}
{{- $_ := set .made "ca" (dict "ca.crt" ($ca.Cert | b64enc) "ca.key" ($ca.Key | b64enc)) -}}
{{- end -}}
{{- end -}}

{{/* The names the control plane is reached by, the first one the one it shows */}}
{{- define "certctl.serverNames" -}}
{{- $server := include "certctl.server" . -}}
{{- $names := list (include "certctl.serverHost" .) $server (printf "%s.%s" $server .Release.Namespace) (printf "%s.cluster.local" (include "certctl.serverHost" .)) "localhost" -}}
{{- $names = concat $names .Values.server.tls.dnsNames -}}
{{- if .Values.ingress.enabled -}}
{{- range .Values.ingress.hosts -}}{{- $names = append $names .host -}}{{- end -}}
{{- end -}}
{{- join " " (uniq $names) -}}
{{- end -}}

{{/* What cannot be right is refused before anything is made */}}
{{- define "certctl.check" -}}
{{- with .Values.server.tls -}}
{{- if and .existingSecret .certManager.enabled -}}{{ fail "server.tls: give existingSecret or certManager.enabled, not both" }}{{- end -}}
{{- if and .certManager.enabled (not .certManager.issuerRef.name) -}}{{ fail "server.tls.certManager.issuerRef.name names the issuer that signs the server's certificate" }}{{- end -}}
{{- end -}}
{{- if not .Values.postgresql.enabled -}}
{{- if not (or .Values.externalDatabase.url .Values.externalDatabase.existingSecret) -}}{{ fail "postgresql.enabled=false needs externalDatabase.url or externalDatabase.existingSecret" }}{{- end -}}
{{- if .Values.backup.enabled -}}{{ fail "backup.enabled dumps the bundled PostgreSQL alone (postgresql.enabled); a managed one is backed up by its provider" }}{{- end -}}
{{- else if or .Values.externalDatabase.url .Values.externalDatabase.existingSecret -}}{{ fail "externalDatabase is given: set postgresql.enabled=false as well" }}
{{- end -}}
{{- if and .Values.externalDatabase.readUrl (or (not .Values.externalDatabase.url) .Values.externalDatabase.existingSecret) -}}{{ fail "externalDatabase.readUrl goes with externalDatabase.url; a Secret of your own holds it under the key database-read-url" }}{{- end -}}
{{- if and .Values.tracing.enabled (not .Values.tracing.endpoint) -}}{{ fail "tracing.enabled needs tracing.endpoint, where the collector is" }}{{- end -}}
{{- if and .Values.backup.enabled (eq .Values.backup.sink "s3") (not .Values.backup.s3.bucket) -}}{{ fail "backup.sink=s3 needs backup.s3.bucket" }}{{- end -}}
{{- if and .Values.agent.enabled (eq .Values.agent.kind "Deployment") (gt (int .Values.agent.replicas) 1) -}}{{ fail "an agent has one state: agent.kind=Deployment takes one replica, use StatefulSet for more" }}{{- end -}}
{{- if and .Values.ingress.enabled .Values.ingress.certManager.enabled (not .Values.ingress.certManager.issuerRef.name) -}}{{ fail "ingress.certManager.issuerRef.name names the issuer that signs the ingress' certificate" }}{{- end -}}
{{- end -}}

{{/* CERTCTL_* of the server that are no secrets; the same for servers and the migration hook */}}
{{- define "certctl.serverVariables" -}}
CERTCTL_DATA_DIR: /var/lib/certctl/data
CERTCTL_SERVER_HOST: 0.0.0.0
CERTCTL_SERVER_PORT: {{ .Values.server.port | quote }}
CERTCTL_SERVER_NAMES: {{ include "certctl.serverNames" . | replace " " "," | quote }}
CERTCTL_SERVER_PROCESSES: {{ .Values.server.processes | quote }}
CERTCTL_SERVER_TLS_CERT_PATH: {{ .Values.server.tls.mountPath }}/tls.crt
CERTCTL_SERVER_TLS_KEY_PATH: {{ .Values.server.tls.mountPath }}/tls.key
CERTCTL_SERVER_TLS_RELOAD_INTERVAL: {{ .Values.server.tls.reloadInterval | quote }}
CERTCTL_PKI_HTTP_HOST: 0.0.0.0
CERTCTL_PKI_HTTP_PORT: {{ .Values.server.pki.port | quote }}
CERTCTL_PKI_BASE_URL: {{ .Values.server.pki.baseUrl | default (printf "http://%s:%v" (include "certctl.serverHost" .) .Values.server.pki.port) | quote }}
CERTCTL_CA_COMMON_NAME: {{ .Values.server.caCommonName | quote }}
CERTCTL_DATABASE_MAX_CONNS: {{ .Values.server.database.maxConnections | quote }}
CERTCTL_DATABASE_WAIT: {{ .Values.server.database.wait | quote }}
CERTCTL_DATABASE_READ_LAG: {{ .Values.server.database.readLag | quote }}
CERTCTL_MIGRATIONS_VIA_HOOK: {{ .Values.migrations.viaHook | quote }}
{{- if .Values.monitoring.runtimeMetrics.port }}
CERTCTL_RUNTIME_METRICS_HOST: 0.0.0.0
CERTCTL_RUNTIME_METRICS_PORT: {{ .Values.monitoring.runtimeMetrics.port | quote }}
{{- end }}
CERTCTL_LOG_LEVEL: {{ .Values.server.logging.level | quote }}
CERTCTL_LOG_FORMAT: {{ .Values.server.logging.format | quote }}
{{- include "certctl.tracingVariables" . }}
{{- end -}}

{{/* where traces go; the headers are a secret, and stand in the environment alone */}}
{{- define "certctl.tracingVariables" -}}
{{- with .Values.tracing }}
{{- if .enabled }}
CERTCTL_OTEL_ENABLED: "true"
OTEL_EXPORTER_OTLP_ENDPOINT: {{ .endpoint | quote }}
OTEL_TRACES_SAMPLER: parentbased_traceidratio
OTEL_TRACES_SAMPLER_ARG: {{ .sampleRatio | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "certctl.tracingHeaders" -}}
{{- with .Values.tracing }}
{{- if and .enabled .headersSecret.name }}
- name: OTEL_EXPORTER_OTLP_HEADERS
  valueFrom:
    secretKeyRef:
      name: {{ .headersSecret.name }}
      key: {{ .headersSecret.key }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "certctl.serverConfig" -}}
{{ merge (dict) .Values.server.env (include "certctl.serverVariables" . | fromYaml) | toYaml }}
{{- end -}}

{{/* a port of the pod for each server process's own figures, if they are wanted */}}
{{- define "certctl.runtimePorts" -}}
{{- $ports := list }}
{{- if .Values.monitoring.runtimeMetrics.port }}
{{- range $index := until (int .Values.server.processes) }}
{{- $ports = append $ports (dict "name" (printf "runtime-%d" $index) "containerPort" (add $.Values.monitoring.runtimeMetrics.port $index)) }}
{{- end }}
{{- end }}
{{- toYaml $ports }}
{{- end -}}

{{/* CERTCTL_* that are secrets: the root, and the Secrets to take them from (a hook brings its own) */}}
{{- define "certctl.secretVariables" -}}
{{- if .root.Values.postgresql.enabled }}
- name: POSTGRES_PASSWORD
  valueFrom:
    secretKeyRef:
      name: {{ .postgres }}
      key: password
- name: CERTCTL_DATABASE_URL
  value: postgres://{{ .root.Values.postgresql.auth.username }}:$(POSTGRES_PASSWORD)@{{ include "certctl.postgres" .root }}.{{ .root.Release.Namespace }}.svc:{{ .root.Values.postgresql.service.port }}/{{ .root.Values.postgresql.auth.database }}
{{- else }}
- name: CERTCTL_DATABASE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .database }}
      key: database-url
{{- if or .root.Values.externalDatabase.readUrl .root.Values.externalDatabase.existingSecret }}
- name: CERTCTL_DATABASE_READ_URL
  valueFrom:
    secretKeyRef:
      name: {{ .database }}
      key: database-read-url
      optional: true
{{- end }}
{{- end }}
- name: CERTCTL_CONFIG_ENCRYPTION_KEY
  valueFrom:
    secretKeyRef:
      name: {{ .server }}
      key: config-encryption-key
{{- end -}}
