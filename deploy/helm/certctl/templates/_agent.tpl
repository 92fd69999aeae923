{{/* The agent's pod, the same whatever runs it; .state is the volume that holds keys and identity, empty when a claim template makes it */}}
{{- define "certctl.agentPod" -}}
{{- $agent := .root.Values.agent -}}
metadata:
  labels: {{- include "certctl.podLabels" (dict "root" .root "component" "agent") | nindent 4 }}
  annotations:
    checksum/config: {{ include "certctl.agentConfig" .root | sha256sum }}
    {{- with $agent.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "certctl.agentServiceAccount" .root }}
  automountServiceAccountToken: {{ and .root.Values.rbac.create (not (empty .root.Values.rbac.agentRules)) }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: 60
  {{- with .root.Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext: {{- include "certctl.podSecurity" $agent.securityContext | nindent 4 }}
  {{- if eq $agent.kind "DaemonSet" }}
  initContainers:
    # the kubelet makes the node's folder for root: give it to the agent, with the one power that this takes
    - name: own-state
      image: {{ include "certctl.agentImage" .root }}
      imagePullPolicy: {{ $agent.image.pullPolicy }}
      command: [chown, {{ printf "%v:%v" $agent.securityContext.runAsUser $agent.securityContext.runAsGroup | quote }}, /var/lib/certctl]
      resources: {{- toYaml $agent.resources | nindent 8 }}
      securityContext:
        runAsNonRoot: false
        runAsUser: 0
        readOnlyRootFilesystem: true
        allowPrivilegeEscalation: false
        capabilities:
          drop: [ALL]
          add: [CHOWN]
      volumeMounts:
        - name: state
          mountPath: /var/lib/certctl
  {{- end }}
  containers:
    - name: agent
      image: {{ include "certctl.agentImage" .root }}
      imagePullPolicy: {{ $agent.image.pullPolicy }}
      command: [certctl-agent, run]
      envFrom:
        - configMapRef:
            name: {{ include "certctl.agent" .root }}
      env:
        - name: CERTCTL_AGENT_NAME
          {{- if $agent.name }}
          value: {{ $agent.name | quote }}
          {{- else if eq $agent.kind "Deployment" }}
          value: {{ include "certctl.agent" .root }}
          {{- else }}
          valueFrom:
            fieldRef:
              fieldPath: {{ ternary "spec.nodeName" "metadata.name" (eq $agent.kind "DaemonSet") }}
          {{- end }}
        # shared by the release's agents: each enrols once with it, then has a credential of its own
        - name: CERTCTL_AGENT_ENROLMENT_TOKEN
          valueFrom:
            secretKeyRef:
              name: {{ include "certctl.serverSecret" .root }}
              key: agent-bootstrap-token
        {{- include "certctl.tracingHeaders" .root | nindent 8 }}
      # started: enrolled; ready and alive: enrolled, and its run holds the state folder
      startupProbe:
        exec: &status
          command: [certctl-agent, status]
        periodSeconds: 5
        timeoutSeconds: 10
        failureThreshold: 60
      readinessProbe:
        exec: *status
        periodSeconds: 60
        timeoutSeconds: 10
      resources: {{- toYaml $agent.resources | nindent 8 }}
      securityContext: {{- include "certctl.containerSecurity" $agent.securityContext | nindent 8 }}
      volumeMounts:
        - name: state
          mountPath: /var/lib/certctl
        - name: tmp
          mountPath: /tmp
        - name: config
          mountPath: /etc/certctl/allow.toml
          subPath: allow.toml
          readOnly: true
        {{- if include "certctl.caSecret" .root }}
        - name: ca
          mountPath: /etc/certctl/ca
          readOnly: true
        {{- end }}
        {{- with $agent.volumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    {{- with .state }}
    - name: state
      {{- toYaml . | nindent 6 }}
    {{- end }}
    - name: tmp
      emptyDir: {}
    - name: config
      configMap:
        name: {{ include "certctl.agent" .root }}
        items:
          - {key: allow.toml, path: allow.toml}
    {{- with include "certctl.caSecret" .root }}
    # the CA alone: the server's key is no agent's business
    - name: ca
      secret:
        secretName: {{ . }}
        items:
          - {key: {{ $.root.Values.server.tls.caKey }}, path: ca.crt}
    {{- end }}
    {{- with $agent.volumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $agent.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $agent.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $agent.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- define "certctl.agentImage" -}}
{{ .Values.agent.image.repository }}:{{ .Values.agent.image.tag | default .Chart.AppVersion }}
{{- end -}}

{{- define "certctl.agentVariables" -}}
CERTCTL_SERVER_URL: {{ .Values.agent.serverUrl | default (printf "https://%s:%v" (include "certctl.serverHost" .) .Values.server.service.port) | quote }}
{{- if include "certctl.caSecret" . }}
CERTCTL_SERVER_CA_BUNDLE_PATH: /etc/certctl/ca/ca.crt
{{- end }}
CERTCTL_AGENT_STATE_DIR: {{ .Values.agent.stateDir | quote }}
CERTCTL_KEY_DIR: {{ .Values.agent.keyDir | quote }}
CERTCTL_AGENT_ALLOW_FILE: /etc/certctl/allow.toml
CERTCTL_LOG_LEVEL: {{ .Values.agent.logging.level | quote }}
CERTCTL_LOG_FORMAT: {{ .Values.agent.logging.format | quote }}
{{- include "certctl.tracingVariables" . }}
{{- end -}}

{{- define "certctl.agentConfig" -}}
{{ merge (dict "allow.toml" (.Values.agent.allow | default "# nothing is allowed: set agent.allow\n")) .Values.agent.env (include "certctl.agentVariables" . | fromYaml) | toYaml }}
{{- end -}}

{{- define "certctl.agentClaim" -}}
accessModes: [ReadWriteOnce]
{{- with .Values.agent.storage.storageClass }}
storageClassName: {{ . | quote }}
{{- end }}
resources:
  requests:
    storage: {{ .Values.agent.storage.size }}
{{- end -}}
