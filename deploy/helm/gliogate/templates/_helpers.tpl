{{- define "gliogate.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 53 | trimSuffix "-" -}}
{{- end -}}

{{/* 53 characters leave room for suffixes within the 63 of a DNS label. */}}
{{- define "gliogate.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 53 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "gliogate.selectorLabels" -}}
app.kubernetes.io/name: {{ include "gliogate.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "gliogate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "gliogate.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* What every object's metadata begins with. Takes a list: the root, the name's suffix, further labels, annotations. */}}
{{- define "gliogate.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "gliogate.fullname" $root }}{{ index . 1 }}
namespace: {{ $root.Release.Namespace }}
labels:
  {{- include "gliogate.labels" $root | nindent 2 }}
  {{- with index . 2 }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (index . 3) $root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The label that lets a pod of this namespace in. */}}
{{- define "gliogate.clientLabel" -}}
{{ include "gliogate.fullname" . }}-client
{{- end -}}

{{- define "gliogate.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "gliogate.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "gliogate.image" -}}
{{- $image := .Values.image -}}
{{- $repository := required "image.repository is empty: give the image that deploy/docker/Dockerfile builds" $image.repository -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (required "image.digest and image.tag are empty: give one" $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The profile's resource, nothing on cpu. */}}
{{- define "gliogate.acceleratorResource" -}}
{{- $resources := dict "gpu" "nvidia.com/gpu" "mig" "nvidia.com/mig-1g.10gb" "timeSliced" "nvidia.com/gpu.shared" -}}
{{- with .Values.accelerator -}}
{{- if ne .profile "cpu" -}}
{{- default (get $resources .profile) .resource -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "gliogate.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- with include "gliogate.acceleratorResource" . -}}
{{- $accelerator := dict . $.Values.accelerator.count -}}
{{- $_ := set $resources "requests" (merge (dict) $accelerator (default (dict) $resources.requests)) -}}
{{- $_ := set $resources "limits" (merge (dict) $accelerator (default (dict) $resources.limits)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- define "gliogate.modelConfigName" -}}
{{- if .Values.accelerator.modelConfigName -}}
{{- .Values.accelerator.modelConfigName -}}
{{- else if ne .Values.accelerator.profile "cpu" -}}
gpu
{{- end -}}
{{- end -}}

{{- define "gliogate.modelRepository" -}}
{{- $models := .Values.models -}}
{{- if has $models.source (list "s3" "gcs" "azure") -}}
{{- (get $models $models.source).url -}}
{{- else -}}
{{- $models.path -}}
{{- end -}}
{{- end -}}

{{- define "gliogate.tlsSecret" -}}
{{- default (printf "%s-tls" (include "gliogate.fullname" .)) .Values.tls.existingSecret -}}
{{- end -}}

{{/* With TLS Kubernetes cannot ask by gRPC: Triton then answers HTTP, but only inside the pod. */}}
{{- define "gliogate.readyProbe" -}}
{{- if .Values.tls.enabled -}}
exec:
  command: [curl, --silent, --fail, --output, /dev/null, "http://127.0.0.1:{{ .Values.triton.http.port }}/v2/health/ready"]
{{- else -}}
grpc:
  port: {{ .Values.triton.grpc.port }}
{{- end }}
{{- end -}}

{{/*
Triton calls itself live and ready when the process of a Python model has died and its requests fail
(https://github.com/triton-inference-server/server/issues/8604). The dead one stays, a zombie (Z), child of Triton (1).
*/}}
{{- define "gliogate.liveProbe" -}}
exec:
  command:
    - /bin/sh
    - -ec
    - |
      if grep -qs '^[0-9]* (triton_python_b) Z 1 ' /proc/[0-9]*/stat; then
        echo "the process of a Python model has died"
        exit 1
      fi
      curl --silent --fail --output /dev/null http://127.0.0.1:{{ .Values.triton.metrics.port }}/metrics
{{- end -}}

{{/* What Triton is started with, as a list; the shell adds the restrictions, whose token is not to stand here. */}}
{{- define "gliogate.arguments" -}}
{{- $triton := .Values.triton -}}
- --model-repository={{ include "gliogate.modelRepository" . }}
{{- with include "gliogate.modelConfigName" . }}
- --model-config-name={{ . }}
{{- end }}
- --model-control-mode=none
- --disable-auto-complete-config
- --exit-on-error=true
- --strict-readiness=true
- --exit-timeout-secs={{ .Values.drain.exitTimeoutS }}
- --log-verbose={{ $triton.logVerbose }}
- --log-format={{ $triton.logFormat }}
- --grpc-address=0.0.0.0
- --grpc-port={{ $triton.grpc.port }}
{{- with $triton.grpc.maxConnectionAgeS }}
- --grpc-max-connection-age={{ mul . 1000 }}
- --grpc-max-connection-age-grace={{ mul $triton.grpc.maxConnectionAgeGraceS 1000 }}
{{- end }}
{{- if .Values.tls.enabled }}
- --grpc-{{ ternary "use-ssl-mutual" "use-ssl" .Values.tls.mutual }}=true
- --grpc-server-cert=/etc/gliogate/tls/tls.crt
- --grpc-server-key=/etc/gliogate/tls/tls.key
{{- if .Values.tls.mutual }}
- --grpc-root-cert=/etc/gliogate/tls/ca.crt
{{- end }}
{{- end }}
{{- if or $triton.http.enabled .Values.tls.enabled }}
- --allow-http=true
- --http-address={{ ternary "127.0.0.1" "0.0.0.0" .Values.tls.enabled }}
- --http-port={{ $triton.http.port }}
{{- else }}
- --allow-http=false
{{- end }}
- --metrics-address=0.0.0.0
- --metrics-port={{ $triton.metrics.port }}
- --allow-gpu-metrics={{ ne .Values.accelerator.profile "cpu" }}
{{- with .Values.tracing.url }}
- --trace-config=mode=opentelemetry
- --trace-config=opentelemetry,url={{ . }}
- --trace-config=opentelemetry,resource=service.name={{ include "gliogate.fullname" $ }}
- --trace-config=level=TIMESTAMPS
- --trace-config=rate={{ int $.Values.tracing.rate }}
- --trace-config=count=-1
{{- end }}
{{- with $triton.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
The folder of the cache that these models' engines are in. ONNX Runtime finds an engine by the names in a network, not by
its weights: in a folder that they share, new weights would get the engine of the old ones.
*/}}
{{- define "gliogate.engineFolder" -}}
{{- $models := .Values.models -}}
{{- list (include "gliogate.image" .) $models.source (get $models $models.source) $models.path | toJson | sha256sum | trunc 12 -}}
{{- end -}}

{{/* The port of an address: of http[s]://HOST[:PORT]/…, of s3://[http[s]://]HOST:PORT/… or of a bucket, which is 443. */}}
{{- define "gliogate.urlPort" -}}
{{- $address := regexReplaceAll "^(s3|gs|as)://" . "" -}}
{{- $authority := regexReplaceAll "^https?://" $address "" | splitList "/" | first -}}
{{- regexFind ":[0-9]+$" $authority | trimPrefix ":" | default (ternary "80" "443" (hasPrefix "http://" $address)) -}}
{{- end -}}

{{/* Selects this release's series in PromQL: the job that Prometheus gives a PodMonitor. */}}
{{- define "gliogate.series" -}}
job="{{ .Release.Namespace }}/{{ include "gliogate.fullname" . }}"
{{- end -}}

{{/* Requests in flight by pod, by Little's law: the seconds that requests took in a second. */}}
{{- define "gliogate.inFlight" -}}
sum by (namespace, pod) (rate(nv_inference_request_duration_us{ {{- include "gliogate.series" . }},model="brain_tumor"}[1m])) / 1e6
{{- end -}}

{{/* What a schema cannot say: numbers that must go together. */}}
{{- define "gliogate.validate" -}}
{{- $triton := .Values.triton -}}
{{- $ports := list $triton.grpc.port $triton.http.port $triton.metrics.port -}}
{{- if ne (len (uniq $ports)) 3 -}}
{{- fail (printf "triton.grpc.port, triton.http.port and triton.metrics.port must differ, got %v, %v and %v" $triton.grpc.port $triton.http.port $triton.metrics.port) -}}
{{- end -}}
{{- /* gRPC varies the age by a tenth. Clients then look for pods anew: DNS may be 30 s old, and they look once in 30 s. */ -}}
{{- $needed := add 65 (div (add 9 (mul 11 (int $triton.grpc.maxConnectionAgeS))) 10) -}}
{{- if and (gt (int $triton.grpc.maxConnectionAgeS) 0) (lt (int .Values.drain.seconds) (int $needed)) -}}
{{- fail (printf "drain.seconds is %v; with a triton.grpc.maxConnectionAgeS of %v it must be at least %v, or clients lose requests when a pod goes" .Values.drain.seconds $triton.grpc.maxConnectionAgeS $needed) -}}
{{- end -}}
{{- $scaling := .Values.autoscaling -}}
{{- if ne $scaling.mode "none" -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas is %v, more than autoscaling.maxReplicas, %v" $scaling.minReplicas $scaling.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- with .Values.batch -}}
{{- if and .enabled (eq (toJson .input.volume) (toJson .output.volume)) (eq .input.subPath .output.subPath) -}}
{{- fail "batch.input and batch.output are the same folder; give one of them another subPath" -}}
{{- end -}}
{{- end -}}
{{- $band := .Values.monitoring.rules.gateOpeningRate -}}
{{- if ge (float64 $band.low) (float64 $band.high) -}}
{{- fail (printf "monitoring.rules.gateOpeningRate.low is %v, not below high, %v" $band.low $band.high) -}}
{{- end -}}
{{- end -}}

{{/* How long a request waits, in milliseconds. Takes a list: the root, the window, labels to keep. 0 where there are none. */}}
{{- define "gliogate.queueMs" -}}
{{- $selector := printf "{%s,model=\"brain_tumor\"}[%s]" (include "gliogate.series" (index . 0)) (index . 1) -}}
{{- $by := "" -}}
{{- with index . 2 -}}{{- $by = printf " by (%s) " . -}}{{- end -}}
sum{{ $by }}(rate(nv_inference_queue_duration_us{{ $selector }})) / clamp_min(sum{{ $by }}(rate(nv_inference_request_success{{ $selector }})), 1e-3) / 1e3
{{- end -}}

{{/*
Failed requests as a share of all. Takes a list: the root, the window.
Triton counts an answer of the gate's that is an error as a success, so the gate counts by itself; what Triton gives up before
the gate sees it, the gate cannot count.
*/}}
{{- define "gliogate.failedShare" -}}
{{- $series := include "gliogate.series" (index . 0) -}}
{{- $window := index . 1 -}}
{{- $gate := printf "sum(rate(gliogate_requests_total{%s,outcome=~\"failed|unavailable\"}[%s]))" $series $window -}}
{{- $triton := printf "sum(rate(nv_inference_request_failure{%s,model=\"brain_tumor\",reason!=\"CANCELED\"}[%s]))" $series $window -}}
{{- $failed := printf "(%s + %s)" $gate $triton -}}
{{ $failed }} / clamp_min({{ $failed }} + sum(rate(gliogate_requests_total{ {{- $series }},outcome="answered"}[{{ $window }}])), 1e-3)
{{- end -}}

{{/* What the pods of all clients have: the smoke test, the batch, the load test. */}}
{{- define "gliogate.clientPod" -}}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- end -}}

{{/* The root file system is read-only. */}}
{{- define "gliogate.clientEnv" -}}
- name: HOME
  value: /tmp
- name: PYTHONDONTWRITEBYTECODE
  value: "1"
{{- end -}}

{{/* Which nodes. Takes what has nodeSelector, tolerations, affinity and priorityClassName. */}}
{{- define "gliogate.placement" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Where clients get to: names, and gRPC of the server. */}}
{{- define "gliogate.clientEgress" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
- to:
    - podSelector:
        matchLabels:
          {{- include "gliogate.selectorLabels" . | nindent 10 }}
          app.kubernetes.io/component: server
  ports:
    - port: {{ .Values.triton.grpc.port }}
{{- end -}}

{{/*
A Job's metadata. Takes a list: the root, what it does, its spec. No Job can be changed, so one with another spec has another
name; with its own and an index behind it, a pod's name must fit into a DNS label.
*/}}
{{- define "gliogate.jobMetadata" -}}
{{- $root := index . 0 -}}
{{- $metadata := include "gliogate.metadata" (list $root "" (dict "app.kubernetes.io/component" (index . 1)) (dict)) | fromYaml -}}
{{- $short := include "gliogate.fullname" $root | trunc 36 | trimSuffix "-" -}}
{{- toYaml (set $metadata "name" (printf "%s-%s-%s" $short (index . 1) (sha256sum (index . 2) | trunc 8))) -}}
{{- end -}}

{{/* The metadata of a Job's pods. Takes a list: the root, what it does, the run, further annotations. */}}
{{- define "gliogate.jobPodMetadata" -}}
{{- $root := index . 0 -}}
labels:
  {{- include "gliogate.selectorLabels" $root | nindent 2 }}
  app.kubernetes.io/component: {{ index . 1 }}
  {{ include "gliogate.clientLabel" $root }}: "true"
  {{- with $root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
annotations:
  gliogate/run: {{ index . 2 | quote }}
  {{- with merge (dict) (index . 3) $root.Values.commonAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}
