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
app.kubernetes.io/name: {{ include "gliogate.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "gliogate.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "gliogate.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/* Labels on all objects, as YAML. Kueue holds back whatever has its labels, a Deployment's pods too. */}}
{{- define "gliogate.commonLabels" -}}
{{- $labels := dict -}}
{{- range $key, $value := .Values.commonLabels -}}
{{- if not (hasPrefix "kueue.x-k8s.io/" $key) -}}
{{- $_ := set $labels $key $value -}}
{{- end -}}
{{- end -}}
{{- toYaml $labels -}}
{{- end -}}

{{/*
What every object's metadata begins with. Takes a list: the root, the name's suffix, further labels, annotations. Merged, for
a key that is there twice is refused by some who read the manifests, Flux for one.
*/}}
{{- define "gliogate.metadata" -}}
{{- $root := index . 0 -}}
name: {{ include "gliogate.fullname" $root }}{{ index . 1 }}
namespace: {{ $root.Release.Namespace | quote }}
labels:
  {{- merge (include "gliogate.labels" $root | fromYaml) (index . 2) (include "gliogate.commonLabels" $root | fromYaml) | toYaml | nindent 2 }}
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

{{/*
An image by its name, from global.imageRegistry if there is one. Takes a list: the root, the name. As in Docker, what is before
the first slash is a registry if it has a dot or a colon, or is localhost.
*/}}
{{- define "gliogate.imageReference" -}}
{{- $name := index . 1 -}}
{{- with get (default (dict) (index . 0).Values.global) "imageRegistry" -}}
{{- printf "%s/%s" (trimSuffix "/" .) (regexReplaceAll "^([^/]*[.:][^/]*|localhost)/" $name "") -}}
{{- else -}}
{{- $name -}}
{{- end -}}
{{- end -}}

{{- define "gliogate.image" -}}
{{- $image := .Values.image -}}
{{- $repository := required "image.repository is empty: give the image that deploy/docker/Dockerfile builds" $image.repository -}}
{{- $repository = include "gliogate.imageReference" (list . $repository) -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (required "image.digest and image.tag are empty: give one" $image.tag) -}}
{{- end -}}
{{- end -}}

{{/* The profile's resource, nothing on cpu. */}}
{{- define "gliogate.acceleratorResource" -}}
{{- $resources := dict "gpu" "nvidia.com/gpu" "mig" "nvidia.com/mig-1g.10gb" "timeSliced" "nvidia.com/gpu.shared" "mps" "nvidia.com/gpu.shared" -}}
{{- with .Values.accelerator -}}
{{- if ne .profile "cpu" -}}
{{- default (get $resources .profile) .resource -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What the container asks for. Of a device that is claimed nothing is counted. */}}
{{- define "gliogate.resources" -}}
{{- $resources := deepCopy .Values.resources -}}
{{- $storage := dict "ephemeral-storage" (printf "%dMi" (divf (include "gliogate.storage" .) 0x1p20 | ceil | int)) -}}
{{- $_ := set $resources "limits" (merge (dict) (default (dict) $resources.limits) $storage) -}}
{{- if .Values.accelerator.resourceClaim.enabled -}}
{{- $_ := set $resources "claims" (list (dict "name" "accelerator")) -}}
{{- else -}}
{{- with include "gliogate.acceleratorResource" . -}}
{{- $accelerator := dict . $.Values.accelerator.count -}}
{{- $_ := set $resources "requests" (merge (dict) $accelerator (default (dict) $resources.requests)) -}}
{{- $_ := set $resources "limits" (merge (dict) $accelerator (default (dict) $resources.limits)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* What a pod may write on its node's disk, in bytes: the volumes of it, and a log. */}}
{{- define "gliogate.storage" -}}
{{- $engines := and .Values.engineCache.enabled (ne .Values.accelerator.profile "cpu") -}}
{{- $bytes := addf 0x1p30 (include "gliogate.bytes" .Values.temporaryStorage) (ternary (include "gliogate.bytes" .Values.engineCache.sizeLimit) "0" $engines) -}}
{{- printf "%.0f" $bytes -}}
{{- end -}}

{{/* The version of resource.k8s.io that this Kubernetes serves. */}}
{{- define "gliogate.claimVersion" -}}
{{- $versions := ternary "v1beta2" "v1beta1" (semverCompare ">=1.33-0" .Capabilities.KubeVersion.Version) -}}
{{- default (ternary "v1" $versions (semverCompare ">=1.34-0" .Capabilities.KubeVersion.Version)) .Values.accelerator.resourceClaim.apiVersion -}}
{{- end -}}

{{/* What the chart's own ResourceClaimTemplate says; nothing where there is none. */}}
{{- define "gliogate.claimTemplate" -}}
{{- $claim := .Values.accelerator.resourceClaim -}}
{{- if and $claim.enabled (not $claim.templateName) (not $claim.claimName) -}}
{{- $mig := eq .Values.accelerator.profile "mig" -}}
{{- $selectors := $claim.selectors -}}
{{- if and $mig (not $selectors) -}}
{{- $slice := include "gliogate.acceleratorResource" . | trimPrefix "nvidia.com/mig-" | replace ".me" "+me" -}}
{{- $selectors = list (printf "device.attributes['gpu.nvidia.com'].profile == '%s'" $slice) -}}
{{- end -}}
{{- $class := default (ternary "mig.nvidia.com" "gpu.nvidia.com" $mig) $claim.deviceClassName -}}
{{- $request := dict "deviceClassName" $class "count" (int .Values.accelerator.count) -}}
{{- range $selectors -}}
{{- $_ := set $request "selectors" (append (default (list) $request.selectors) (dict "cel" (dict "expression" .))) -}}
{{- end -}}
{{- $name := dict "name" "accelerator" -}}
{{- $named := ternary (merge (dict) $name $request) (merge (dict "exactly" $request) $name) (eq (include "gliogate.claimVersion" .) "v1beta1") -}}
{{- dict "spec" (dict "devices" (dict "requests" (list $named))) | toYaml -}}
{{- end -}}
{{- end -}}

{{/* Its name. It cannot be changed, so one that says something else has another. */}}
{{- define "gliogate.claimTemplateName" -}}
{{- printf "%s-%s" (include "gliogate.fullname" .) (include "gliogate.claimTemplate" . | sha256sum | trunc 8) -}}
{{- end -}}

{{/* A pod that waits for an accelerator which the one before it has waits for ever; CPUs are shared. */}}
{{- define "gliogate.strategy" -}}
{{- if .Values.strategy -}}
{{- toYaml .Values.strategy -}}
{{- else -}}
{{- $spare := ternary 1 0 (eq .Values.accelerator.profile "cpu") -}}
type: RollingUpdate
rollingUpdate:
  maxSurge: {{ $spare }}
  maxUnavailable: {{ sub 1 $spare }}
{{- end -}}
{{- end -}}

{{/* Says "yes" where a rollout starts a pod before it takes one away. */}}
{{- define "gliogate.surges" -}}
{{- $strategy := include "gliogate.strategy" . | fromYaml -}}
{{- $surge := get (default (dict) $strategy.rollingUpdate) "maxSurge" | toString -}}
{{- if and (ne (default "RollingUpdate" $strategy.type) "Recreate") (not (has $surge (list "0" "0%"))) -}}
yes
{{- end -}}
{{- end -}}

{{/* The fewest pods that are to serve. */}}
{{- define "gliogate.fewestPods" -}}
{{- ternary .Values.replicas .Values.autoscaling.minReplicas (eq .Values.autoscaling.mode "none") -}}
{{- end -}}

{{/* And the most; a rollout's are not counted. */}}
{{- define "gliogate.mostPods" -}}
{{- ternary .Values.replicas .Values.autoscaling.maxReplicas (eq .Values.autoscaling.mode "none") -}}
{{- end -}}

{{- define "gliogate.modelConfigName" -}}
{{- if .Values.accelerator.modelConfigName -}}
{{- .Values.accelerator.modelConfigName -}}
{{- else if eq .Values.accelerator.profile "gpu" -}}
gpu
{{- else if ne .Values.accelerator.profile "cpu" -}}
gpu_share
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

{{/* Inside the pod Triton always answers HTTP: its probes send slices by it. */}}
{{- define "gliogate.loopback" -}}
{{ ternary "[::1]" "127.0.0.1" (eq .Values.triton.ipFamily "IPv6") }}
{{- end -}}

{{/*
A probe. Takes a list: the root, what it is to tell, its values. The script is in the pod's own specification: as a file of a
ConfigMap it would change under pods that run. No proxy of extraEnv leads to loopback.
*/}}
{{- define "gliogate.probe" -}}
{{- $root := index . 0 -}}
{{- $loopback := include "gliogate.loopback" $root -}}
exec:
  command:
    - /bin/sh
    - -uc
    - |
      {{- regexReplaceAll "(?m)^ *(#.*)?\n" ($root.Files.Get "files/probe.sh") "" | trim | nindent 6 }}
    - gliogate-probe
    - {{ index . 1 }}
    - "http://{{ $loopback }}:{{ $root.Values.triton.http.port }}"
    - "http://{{ $loopback }}:{{ $root.Values.triton.metrics.port }}/metrics"
    - {{ (index . 2).timeoutSeconds | quote }}
    - {{ $root.Values.probes.firstAnswerS | quote }}
{{ toYaml (index . 2) }}
{{- end -}}

{{/* What Triton is started with, as a list; the shell adds the restrictions, whose token is not to stand here. */}}
{{- define "gliogate.arguments" -}}
{{- $triton := .Values.triton -}}
{{- $v6 := eq $triton.ipFamily "IPv6" -}}
{{- $everywhere := ternary "ipv6:::" "0.0.0.0" $v6 -}}
- {{ include "gliogate.modelRepository" . | printf "--model-repository=%s" | quote }}
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
{{- /* gRPC writes addresses of IPv6 otherwise than the rest, and takes IPv4 on them, too. */}}
{{- $both := or $v6 (has "IPv6" .Values.service.ipFamilies) (eq .Values.service.ipFamilyPolicy "RequireDualStack") }}
- {{ ternary "[::]" "0.0.0.0" $both | printf "--grpc-address=%s" | quote }}
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
- --allow-http=true
- {{ ternary $everywhere (ternary "ipv6:::1" "127.0.0.1" $v6) $triton.http.enabled | printf "--http-address=%s" | quote }}
- --http-port={{ $triton.http.port }}
- {{ printf "--metrics-address=%s" $everywhere | quote }}
- --metrics-port={{ $triton.metrics.port }}
- --metrics-config=summary_latencies=true
{{- /* It cannot read a slice's: https://github.com/triton-inference-server/server/issues/5324 */}}
- --allow-gpu-metrics={{ not (has .Values.accelerator.profile (list "cpu" "mig")) }}
{{- with .Values.tracing.url }}
- --trace-config=mode=opentelemetry
- {{ printf "--trace-config=opentelemetry,url=%s" . | quote }}
- --trace-config=opentelemetry,resource=service.name={{ include "gliogate.fullname" $ }}
- --trace-config=level=TIMESTAMPS
- --trace-config=rate={{ int $.Values.tracing.rate }}
- --trace-config=count=-1
{{- end }}
{{- with $triton.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Whether the chart makes the claim for engines. */}}
{{- define "gliogate.engineClaimIsMade" -}}
{{- if and .Values.engineCache.claim.enabled (ne .Values.accelerator.profile "cpu") -}}
yes
{{- end -}}
{{- end -}}

{{/* The claim that keeps engines, if any. */}}
{{- define "gliogate.engineClaim" -}}
{{- if include "gliogate.engineClaimIsMade" . -}}
{{- include "gliogate.fullname" . }}-engines
{{- else if and .Values.engineCache.enabled (ne .Values.accelerator.profile "cpu") -}}
{{- .Values.engineCache.existingClaim -}}
{{- end -}}
{{- end -}}

{{/*
The folder of the cache that these models' engines are in. ONNX Runtime finds an engine by the names in a network, not by
its weights: in a folder that they share, new weights would get the engine of the old ones.
*/}}
{{- define "gliogate.engineFolder" -}}
{{- $models := .Values.models -}}
{{- list (include "gliogate.image" .) $models.source (get $models $models.source) $models.path | toJson | sha256sum | trunc 12 -}}
{{- end -}}

{{/*
Keeps engines on a claim that pods share. ONNX Runtime's lock holds within one process, and it reads a file that another
process has written half. So each pod builds into a folder of its own, which begins with what was kept, and to the claim
go whole files only, under their names by renaming: engines when all are built, and CuPy's kernels, which are compiled
when they are first needed, when the pod ends, too. CuPy finds kernels by their source, and whole by a sum in each file
(https://github.com/cupy/cupy/blob/main/cupy/cuda/compiler.py). Whatever fails here costs time, not the pod.
*/}}
{{- define "gliogate.engineKeeper" -}}
- name: engine-keeper
  image: {{ include "gliogate.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  # Its shell and curl need no CUDA, and so no entrypoint.
  # A sidecar: Triton starts when the startup probe has passed, and it ends after Triton.
  restartPolicy: Always
  securityContext:
    {{- toYaml .Values.securityContext | nindent 4 }}
  command:
    - /bin/sh
    - -ec
    - |
      cd "$1"
      kept="$2"
      part=".$HOSTNAME.part"
      keep() {
        for file in * cupy/*.cubin; do
          if test -f "$file" && ! test -e "$kept/$file"; then
            { cp "$file" "$kept/$part" && mv "$kept/$part" "$kept/$file" && echo "kept $file"; } ||
              { echo "cannot keep $file" >&2; rm -f "$kept/$part"; }
          fi
        done
      }
      # It comes when Triton has ended. What a Triton that never loaded its models leaves behind may be half a file.
      loaded=
      trap 'kill "$!" || true; test -z "$loaded" || keep; exit 0' TERM
      mkdir -p cupy
      mkdir "$kept/cupy" 2> /dev/null || true
      if ! test -e .begun; then
        for file in "$kept"/* "$kept"/cupy/*.cubin; do
          own="${file#"$kept"/}"
          test ! -f "$file" || cp "$file" "$own" || { echo "cannot read $file" >&2; rm -f "$own"; }
        done
        touch .begun
      fi
      # Triton shows its metrics when all models are loaded, and so all engines built.
      until curl --silent --fail --max-time 2 --noproxy '*' --output /dev/null "$3"; do sleep 1; done
      loaded=yes
      keep
      # With nothing open: TERM may come before it is a process of its own, and then it outlives this shell.
      sleep infinity > /dev/null 2>&1 & wait
    - engine-keeper
    - {{ .Values.engineCache.mountPath | quote }}
    - /mnt/engines
    - "http://{{ include "gliogate.loopback" . }}:{{ .Values.triton.metrics.port }}/metrics"
  startupProbe:
    exec:
      command: [test, -e, {{ printf "%s/.begun" .Values.engineCache.mountPath | quote }}]
    periodSeconds: 1
    failureThreshold: 600
  resources:
    {{- toYaml .Values.engineCache.resources | nindent 4 }}
  volumeMounts:
    - name: engines
      mountPath: {{ .Values.engineCache.mountPath | quote }}
    - name: kept-engines
      mountPath: /mnt/engines
      subPath: {{ include "gliogate.engineFolder" . }}
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

{{/*
A metric of NVIDIA's DCGM exporter, of this release's pods. Unless it is scraped with honorLabels, Prometheus has the pods'
names in exported_pod and exported_namespace. Takes a list: the root, an expression of it.
*/}}
{{- define "gliogate.dcgm" -}}
label_replace(label_replace({{ index . 1 }}, "pod", "$1", "exported_pod", "(.+)"), "namespace", "$1", "exported_namespace", "(.+)")
and on (namespace, pod) up{ {{- include "gliogate.series" (index . 0) }}}
{{- end -}}

{{/* The models that clients ask, as a label of Triton's metrics: the gate of slices and the gate of whole heads. */}}
{{- define "gliogate.gates" -}}
model=~"brain_tumor|brain_volume"
{{- end -}}

{{/* Requests in flight by pod, by Little's law: the seconds that requests took in a second. */}}
{{- define "gliogate.inFlight" -}}
sum by (namespace, pod) (rate(nv_inference_request_duration_us{ {{- include "gliogate.series" . }},{{ include "gliogate.gates" . }}}[1m])) / 1e6
{{- end -}}

{{/* A duration as Go writes it, 2160h or 1m30s, in milliseconds. */}}
{{- define "gliogate.milliseconds" -}}
{{- $milliseconds := 0 -}}
{{- range regexFindAll "[0-9]+(ms|s|m|h)" . -1 -}}
{{- $unit := get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000) (regexFind "[a-z]+$" .) -}}
{{- $milliseconds = add $milliseconds (mul $unit (regexFind "^[0-9]+" .)) -}}
{{- end -}}
{{- $milliseconds -}}
{{- end -}}

{{/* A quantity as Kubernetes writes it, 8Gi or 512M, or a number of bytes, in bytes. */}}
{{- define "gliogate.bytes" -}}
{{- if kindIs "string" . -}}
{{- $units := dict "" 1.0 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "Ki" 0x1p10 "Mi" 0x1p20 "Gi" 0x1p30 "Ti" 0x1p40 "Pi" 0x1p50 -}}
{{- mulf (regexFind "^[0-9.]+" .) (get $units (regexFind "[A-Za-z]*$" .)) -}}
{{- else -}}
{{- . -}}
{{- end -}}
{{- end -}}

{{/* Says "yes" where the batch's results go to the volume that its studies are in; however it is mounted, a claim is one. */}}
{{- define "gliogate.batchShares" -}}
{{- $volumes := list -}}
{{- range list .Values.batch.input .Values.batch.output -}}
{{- $claim := get .volume "persistentVolumeClaim" -}}
{{- $volumes = append $volumes (ternary (get (default (dict) $claim) "claimName") (toJson .volume) (not (empty $claim))) -}}
{{- end -}}
{{- if eq (first $volumes) (last $volumes) -}}
yes
{{- end -}}
{{- end -}}

{{/* What a schema cannot say: values that must go together. */}}
{{- define "gliogate.validate" -}}
{{- $triton := .Values.triton -}}
{{- /* Services have the strictest names. */ -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" (include "gliogate.fullname" .)) -}}
{{- fail (printf "%s cannot be a Service's name, which begins with a letter and has lower-case letters, digits and hyphens: set fullnameOverride, or take another name for the release" (include "gliogate.fullname" .)) -}}
{{- end -}}
{{- if and (eq .Values.models.source "oci") (semverCompare "<1.33-0" .Capabilities.KubeVersion.Version) -}}
{{- fail (printf "models.source is oci; image volumes take Kubernetes 1.33 with the feature gate ImageVolume, or 1.35, and this is %s: take another source" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- with .Values.accelerator -}}
{{- $slice := include "gliogate.acceleratorResource" $ | regexFind "mig-[0-9]+g\\.[0-9]+gb" | regexFind "[0-9]+gb" | trimSuffix "gb" -}}
{{- if and $slice (lt (int $slice) 4) (not .modelConfigName) -}}
{{- fail (printf "accelerator.resource is a slice of %s GB, and a pod takes more while it builds its engines: take one of 4 GB or more (docs/operations.md), or name a configuration of yours in accelerator.modelConfigName" $slice) -}}
{{- end -}}
{{- if and .resourceClaim.enabled (semverCompare "<1.32-0" $.Capabilities.KubeVersion.Version) -}}
{{- fail (printf "accelerator.resourceClaim.enabled takes Kubernetes 1.34, or 1.32 with dynamic resource allocation switched on, and this is %s: ask for accelerator.resource" $.Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- if and (has .profile (list "timeSliced" "mps")) .resourceClaim.enabled (not .resourceClaim.claimName) -}}
{{- fail (printf "accelerator.profile is %s, and each pod would claim a device of its own: name the ResourceClaim that they share in accelerator.resourceClaim.claimName" .profile) -}}
{{- end -}}
{{- if and .resourceClaim.enabled .resourceClaim.claimName (has .profile (list "gpu" "mig")) (gt (int (include "gliogate.mostPods" $)) 1) -}}
{{- fail (printf "accelerator.resourceClaim.claimName is one device for %s pods, which accelerator.profile %s does not share: take templateName, a template of a claim for each, or the profile timeSliced or mps" (include "gliogate.mostPods" $) .profile) -}}
{{- end -}}
{{- end -}}
{{- with .Values.resources.limits -}}
{{- if and .memory (ne $.Values.accelerator.profile "mps") (ge (include "gliogate.bytes" $.Values.sharedMemory | float64) (include "gliogate.bytes" .memory | float64)) -}}
{{- fail (printf "sharedMemory is %v, and counts as memory: it must be below resources.limits.memory, %v" $.Values.sharedMemory .memory) -}}
{{- end -}}
{{- end -}}
{{- with get (default (dict) .Values.resources.limits) "ephemeral-storage" -}}
{{- if lt (include "gliogate.bytes" . | float64) (include "gliogate.storage" $ | float64) -}}
{{- fail (printf "resources.limits.ephemeral-storage is %v, and a pod that uses its volumes would be evicted: it must be at least temporaryStorage, engineCache.sizeLimit and 1Gi, or be left out" .) -}}
{{- end -}}
{{- end -}}
{{- with .Values.service -}}
{{- if and (has .trafficDistribution (list "PreferSameZone" "PreferSameNode")) (semverCompare "<1.34-0" $.Capabilities.KubeVersion.Version) -}}
{{- fail (printf "service.trafficDistribution is %s, which takes Kubernetes 1.34, and this is %s: take PreferClose" .trafficDistribution $.Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.mesh.kind "istio") (eq (int .Values.podSecurityContext.runAsUser) 1337) -}}
{{- fail "podSecurityContext.runAsUser is 1337, the user of Istio's proxy, whose traffic is let past it: take another" -}}
{{- end -}}
{{- if and (has .Values.mesh.kind (list "istio" "linkerd")) (not .Values.mesh.nativeSidecars) -}}
{{- range $name, $runs := dict "batch.enabled" .Values.batch.enabled "loadTest.enabled" .Values.loadTest.enabled "smokeTest.image" .Values.smokeTest.image -}}
{{- if $runs -}}
{{- fail (printf "%s starts pods that end, and beside a proxy that is no native sidecar they never do: switch these on in the mesh, and set mesh.nativeSidecars" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- with .Values.tls.certManager -}}
{{- if ge (include "gliogate.milliseconds" .renewBefore | int64) (include "gliogate.milliseconds" .duration | int64) -}}
{{- fail (printf "tls.certManager.renewBefore is %s, not below duration, %s" .renewBefore .duration) -}}
{{- end -}}
{{- end -}}
{{- $ways := dict "ingress.enabled" .Values.ingress.enabled "grpcRoute.enabled" .Values.grpcRoute.enabled "service.type" (ne .Values.service.type "ClusterIP") -}}
{{- range $way, $open := $ways -}}
{{- if and $open $.Values.networkPolicy.enabled (not $.Values.networkPolicy.clients) (not $.Values.networkPolicy.extraIngress) -}}
{{- fail (printf "%s makes a way in that ends at the network policy: name where it comes from, its controller's namespace for one, in networkPolicy.clients" $way) -}}
{{- end -}}
{{- end -}}
{{- $metrics := .Values.monitoring.podMonitor -}}
{{- $scaled := ne .Values.autoscaling.mode "none" -}}
{{- if and $metrics.enabled (or $scaled .Values.monitoring.rules.enabled) -}}
{{- /* A rate takes two samples; scaling goes by one over a minute, alerts by one over five. */ -}}
{{- $longest := ternary "30s" "2m" $scaled -}}
{{- if gt (include "gliogate.milliseconds" $metrics.interval | int64) (include "gliogate.milliseconds" $longest | int64) -}}
{{- fail (printf "monitoring.podMonitor.interval is %s; more than %s gives %s nothing to go by" $metrics.interval $longest (ternary "scaling" "the alerts" $scaled)) -}}
{{- end -}}
{{- end -}}
{{- /* Unready first, started again then: it takes as long as a probe may, or its period. */ -}}
{{- $lasts := dict -}}
{{- range $name, $probe := pick .Values.probes "readiness" "liveness" -}}
{{- $_ := set $lasts $name (mul $probe.failureThreshold (max $probe.periodSeconds $probe.timeoutSeconds)) -}}
{{- end -}}
{{- if le (int $lasts.liveness) (int $lasts.readiness) -}}
{{- fail (printf "probes.liveness ends a pod after %v s (failureThreshold times periodSeconds or, if that is longer, timeoutSeconds), before probes.readiness takes it out, after %v s" $lasts.liveness $lasts.readiness) -}}
{{- end -}}
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
{{- range $name, $replicas := dict "fallback.replicas" (get $scaling.keda.fallback "replicas") "pausedReplicas" $scaling.keda.pausedReplicas -}}
{{- if gt (int $replicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "autoscaling.keda.%s is %v, more than autoscaling.maxReplicas, %v" $name $replicas $scaling.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- if gt (int $scaling.minReplicas) (int $scaling.maxReplicas) -}}
{{- fail (printf "autoscaling.minReplicas is %v, more than autoscaling.maxReplicas, %v" $scaling.minReplicas $scaling.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- with .Values.batch -}}
{{- if and .enabled (include "gliogate.batchShares" $) -}}
{{- $input := clean .input.subPath | printf "%s/" | trimPrefix "./" -}}
{{- $output := clean .output.subPath | printf "%s/" | trimPrefix "./" -}}
{{- if or (hasPrefix $input $output) (hasPrefix $output $input) -}}
{{- fail (printf "batch.input.subPath is %q and batch.output.subPath is %q, of one volume: give each a folder beside the other's, or results are taken for studies" .input.subPath .output.subPath) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $band := .Values.monitoring.rules.gateOpeningRate -}}
{{- if ge (float64 $band.low) (float64 $band.high) -}}
{{- fail (printf "monitoring.rules.gateOpeningRate.low is %v, not below high, %v" $band.low $band.high) -}}
{{- end -}}
{{- end -}}

{{/* How long a request waits, in milliseconds. Takes a list: the root, the window, labels to keep. 0 where there are none. */}}
{{- define "gliogate.queueMs" -}}
{{- $selector := printf "{%s,%s}[%s]" (include "gliogate.series" (index . 0)) (include "gliogate.gates" .) (index . 1) -}}
{{- $by := "" -}}
{{- with index . 2 -}}{{- $by = printf " by (%s) " . -}}{{- end -}}
sum{{ $by }}(rate(nv_inference_queue_duration_us{{ $selector }})) / clamp_min(sum{{ $by }}(rate(nv_inference_request_success{{ $selector }})), 1e-3) / 1e3
{{- end -}}

{{/*
Failed requests in a second. Takes a list: the root, the window.
Triton counts an answer of the gate's that is an error as a success, so the gate counts by itself; what Triton gives up before
the gate sees it, the gate cannot count. A sum of something that is not there would be nothing.
*/}}
{{- define "gliogate.failed" -}}
{{- $series := include "gliogate.series" (index . 0) -}}
{{- $window := index . 1 -}}
{{- $gate := printf "sum(rate(gliogate_requests_total{%s,outcome=~\"failed|unavailable\"}[%s]))" $series $window -}}
{{- $triton := printf "sum(rate(nv_inference_request_failure{%s,%s,reason!=\"CANCELED\"}[%s]))" $series (include "gliogate.gates" .) $window -}}
{{- printf "((%s or vector(0)) + (%s or vector(0)))" $gate $triton -}}
{{- end -}}

{{/*
Whether a month's budget of errors burns so many times too fast. Takes a list: the root, the factor, the long window with its
seconds, the short one. A few failures are no share of anything where requests are few.
*/}}
{{- define "gliogate.burns" -}}
{{- $root := index . 0 -}}
{{- $rules := $root.Values.monitoring.rules -}}
{{- $budget := printf "%v * %v" (index . 1) (subf 1.0 $rules.objective) -}}
{{- $long := list $root (index . 2) -}}
{{ include "gliogate.failedShare" $long }} > {{ $budget }}
and {{ include "gliogate.failedShare" (list $root (index . 4)) }} > {{ $budget }}
and {{ include "gliogate.failed" $long }} * {{ index . 3 }} >= {{ $rules.leastFailures }}
{{- end -}}

{{/* Failed requests as a share of all; where the gate's counts are not there, of Triton's. Takes a list: the root, the window. */}}
{{- define "gliogate.failedShare" -}}
{{- $series := include "gliogate.series" (index . 0) -}}
{{- $window := index . 1 -}}
{{- $failed := include "gliogate.failed" . -}}
{{- $gate := printf "sum(rate(gliogate_requests_total{%s,outcome=\"answered\"}[%s]))" $series $window -}}
{{- $triton := printf "sum(rate(nv_inference_request_success{%s,%s}[%s]))" $series (include "gliogate.gates" .) $window -}}
{{ $failed }} / clamp_min({{ $failed }} + ({{ $gate }} or {{ $triton }} or vector(0)), 1e-3)
{{- end -}}

{{/*
Requests in a second that took longer than the objective in the gate. Takes a list: the root, the window.
Prometheus 3 writes a whole number as 1.0 in the label of a histogram.
*/}}
{{- define "gliogate.slow" -}}
{{- $root := index . 0 -}}
{{- $selector := include "gliogate.series" $root -}}
{{- $edge := printf "le=~\"%v(\\\\.0)?\"" $root.Values.monitoring.rules.latency.seconds -}}
{{- $all := printf "sum(rate(gliogate_request_seconds_count{%s}[%s]))" $selector (index . 1) -}}
{{- $quick := printf "sum(rate(gliogate_request_seconds_bucket{%s,%s}[%s]))" $selector $edge (index . 1) -}}
{{- printf "(%s - %s)" $all $quick -}}
{{- end -}}

{{/* The same as a share of all. */}}
{{- define "gliogate.slowShare" -}}
{{- $selector := include "gliogate.series" (index . 0) -}}
{{ include "gliogate.slow" . }} / clamp_min(sum(rate(gliogate_request_seconds_count{ {{- $selector }}}[{{ index . 1 }}])), 1e-3)
{{- end -}}

{{/* Where to read on about an alert, if anywhere. Takes a list: the root, the alert in lower case. */}}
{{- define "gliogate.runbook" -}}
{{- with (index . 0).Values.monitoring.rules.runbookUrl -}}
{{- printf "%s#%s" . (index $ 1) | printf "runbook_url: %q" | nindent 12 -}}
{{- end -}}
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
{{- with get . "schedulerName" }}
schedulerName: {{ . | quote }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . | quote }}
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

{{/* Names. OpenShift's DNS pods listen on 5353, and its network looks at the port of the pod, not at that of the service. */}}
{{- define "gliogate.dnsEgress" -}}
- ports:
    {{- range $port := list 53 5353 }}
    {{- range list "UDP" "TCP" }}
    - port: {{ $port }}
      protocol: {{ . }}
    {{- end }}
    {{- end }}
{{- end -}}

{{/* The port by which a mesh's proxies talk to each other, whatever port is meant; nothing without one. */}}
{{- define "gliogate.meshPort" -}}
{{- get (dict "istio" "15008" "ambient" "15008" "linkerd" "4143") .Values.mesh.kind -}}
{{- end -}}

{{/* Where a mesh's proxy gets to: its control plane, and other proxies. */}}
{{- define "gliogate.meshEgress" -}}
{{- with get (dict "istio" (list 15012) "linkerd" (list 8080 8086 8090)) .Values.mesh.kind -}}
- to:
    {{- $namespace := ternary "istio-system" "linkerd" (eq $.Values.mesh.kind "istio") }}
    {{- $there := dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" $namespace)) }}
    {{- default (list $there) $.Values.mesh.controlPlane | toYaml | nindent 4 }}
  ports:
    {{- range . }}
    - port: {{ . }}
    {{- end }}
{{ end -}}
{{- with include "gliogate.meshPort" . -}}
- ports:
    - port: {{ . }}
{{- end -}}
{{- end -}}

{{/*
Annotations of Triton's pods for the mesh's proxies. They would end at once, while Triton still drains. Its metrics are read
past them: Prometheus may be outside.
*/}}
{{- define "gliogate.meshAnnotations" -}}
{{- $lasts := add .Values.drain.seconds .Values.drain.exitTimeoutS -}}
{{- $annotations := dict -}}
{{- if eq .Values.mesh.kind "istio" -}}
{{- $annotations = dict "traffic.sidecar.istio.io/excludeInboundPorts" (print .Values.triton.metrics.port) -}}
{{- if not .Values.mesh.nativeSidecars -}}
{{- $config := dict "holdApplicationUntilProxyStarts" true "terminationDrainDuration" (printf "%ds" $lasts) -}}
{{- $_ := set $annotations "proxy.istio.io/config" (toJson $config) -}}
{{- end -}}
{{- else if eq .Values.mesh.kind "linkerd" -}}
{{- $annotations = dict "config.linkerd.io/skip-inbound-ports" (print .Values.triton.metrics.port) -}}
{{- if not .Values.mesh.nativeSidecars -}}
{{- $_ := set $annotations "config.alpha.linkerd.io/proxy-wait-before-exit-seconds" (print $lasts) -}}
{{- $_ := set $annotations "config.linkerd.io/proxy-await" "enabled" -}}
{{- end -}}
{{- end -}}
{{- toYaml $annotations -}}
{{- end -}}

{{/* Where clients get to: names, and gRPC of the server. */}}
{{- define "gliogate.clientEgress" -}}
{{ include "gliogate.dnsEgress" . }}
{{- with include "gliogate.meshEgress" . }}
{{ . }}
{{- end }}
- to:
    - podSelector:
        matchLabels:
          {{- include "gliogate.selectorLabels" . | nindent 10 }}
          app.kubernetes.io/component: server
  ports:
    - port: {{ .Values.triton.grpc.port }}
{{- end -}}

{{/*
A Job's metadata. Takes a list: the root, what it does, its spec and, if it has any, labels of its own. No Job can be changed, so one with another spec has another
name; with its own and an index behind it, a pod's name must fit into a DNS label.
*/}}
{{- define "gliogate.jobMetadata" -}}
{{- $root := index . 0 -}}
{{- $labels := dict "app.kubernetes.io/component" (index . 1) -}}
{{- if gt (len .) 3 -}}
{{- $labels = merge $labels (index . 3) -}}
{{- end -}}
{{- $metadata := include "gliogate.metadata" (list $root "" (merge $labels $root.Values.commonLabels) (dict)) | fromYaml -}}
{{- $short := include "gliogate.fullname" $root | trunc 36 | trimSuffix "-" -}}
{{- toYaml (set $metadata "name" (printf "%s-%s-%s" $short (index . 1) (sha256sum (index . 2) | trunc 8))) -}}
{{- end -}}

{{/* The metadata of a Job's pods. Takes a list: the root, what it does, the run, further annotations. */}}
{{- define "gliogate.jobPodMetadata" -}}
{{- $root := index . 0 -}}
{{- $own := dict "app.kubernetes.io/component" (index . 1) (include "gliogate.clientLabel" $root) "true" -}}
labels:
  {{- merge (include "gliogate.selectorLabels" $root | fromYaml) $own (include "gliogate.commonLabels" $root | fromYaml) | toYaml | nindent 2 }}
annotations:
  {{- merge (dict "gliogate/run" (index . 2)) (index . 3) $root.Values.commonAnnotations | toYaml | nindent 2 }}
{{- end -}}
