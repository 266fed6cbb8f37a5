# Whether Triton makes progress: what Kubernetes asks at the start, for readiness and for liveness. How often in a row it may
# fail is Kubernetes' to count. It says what is wrong, and that is in the pod's events.
#   sh -uc SCRIPT gliogate-probe startup|ready|live HTTP_URL METRICS_URL SECONDS FIRST_ANSWER_S
mode=$1 http=$2 metrics=$3 seconds=$4 first_answer=$5
state="${TMPDIR:-/tmp}/gliogate-probe-$mode-${http##*:}"

fail() {
  printf '%.400s\n' "$1"
  exit 1
}

tell_time() {
  read -r now rest < /proc/uptime
  now=${now%%.*}
}

# Sets limit to the seconds that are left. It ends before Kubernetes ends it, or nobody would learn the reason.
tell_limit() {
  tell_time
  limit=$((end - now))
  test "$limit" -ge 1 || limit=1
}

fetch() {
  curl --silent --noproxy '*' "$@"
}

# Sets answered and failed: how many requests were answered, and how many failed inside the server. Empty where Triton does
# not tell. What the caller did wrong or gave up is neither, nor is what a full queue refused.
look() {
  answered='' failed=0
  set -- $(fetch --max-time 2 "$metrics" | grep -E '^(gliogate_requests_total|nv_inference_request_failure)\{')
  while test $# -ge 2; do
    case $1 in
      gliogate_*'"answered"'*) answered=$((${answered:-0} + ${2%%.*})) ;;
      gliogate_*'"failed"'* | gliogate_*'"unavailable"'*) failed=$((failed + ${2%%.*})) ;;
      nv_*'"brain_tumor"'*'"BACKEND"'* | nv_*'"brain_tumor"'*'"OTHER"'*) failed=$((failed + ${2%%.*})) ;;
    esac
    shift 2
  done
}

# Sets before_answered and before_failed to what this probe saw the last time. Empty if it saw another start of the server,
# or if that is long ago: what could not be replaced is still there.
recall() {
  before_server='' before_time=0 before_answered='' before_failed=0
  test ! -r "$state" || read -r before_server before_time before_answered before_failed < "$state"
  if test "$before_server" != "$server" || test $((now - before_time)) -gt 60; then
    before_answered=''
  fi
}

keep() {
  if ! { printf '%s\n' "$*" > "$state.new" && mv "$state.new" "$state"; } 2> /dev/null; then
    rm -f "$state.new" "$state" 2> /dev/null
  fi
}

# Whether more was answered than at another time: "" is a number that is not known.
has_grown() {
  test -n "$1" && test -n "$answered" && test "$answered" -gt "$1"
}

# Has a model answer a black slice: MODEL OUTPUT FURTHER_OF_OUTPUT PARAMETERS. If it does not, reason says why.
ask() {
  request='{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 256, 256, 3], "parameters":'
  request="$request {\"binary_data_size\": 196608}}], \"outputs\": [{\"name\": \"$2\"$3}], \"parameters\": {$4}}"
  answer=$(
    { printf %s "$request"; head -c 196608 /dev/zero; } | fetch --max-time "$limit" --header Expect: \
      --header 'Content-Type: application/octet-stream' --header "Inference-Header-Content-Length: ${#request}" \
      --data-binary @- --write-out ' %{http_code}' "$http/v2/models/$1/infer"
  )
  exit_code=$? code=${answer##* }
  case $exit_code in
    0) reason="$1 answers a slice with HTTP $code: ${answer% *}" ;;
    28) reason="$1 has not answered a slice for $limit s" ;;
    *) reason="$1 cannot be asked, exit code $exit_code of curl" ;;
  esac
  test "$code" = 200
}

# Has models answer, each once. A network comes before the gate, for what the gate answers counts as progress, and is asked by
# itself, for what the gate hands on counts as a tumor found. Of the mask only the largest pixel is sent. The gate's queue is
# jumped.
ask_each() {
  for model in $1; do
    tell_limit
    if test "$model" = brain_tumor; then
      ask brain_tumor tumor_probability '' "\"priority\": 1, \"timeout\": ${limit}000000"
    else
      ask "$model" mask_probability ', "parameters": {"classification": 1}' ''
    fi || return 1
  done
}

tell_time
end=$((now + seconds - 3))
# When the container was started: /tmp outlives it, what Triton counts does not.
read -r stat < /proc/1/stat
set -- ${stat##*) }
server=${20}

# Triton takes no notice of a Python process that is gone (https://github.com/triton-inference-server/server/issues/8604): the
# dead one stays, a zombie (Z), child of Triton (1). Other processes may answer, so no look at progress would tell for sure;
# nor of one that is stopped (T) and keeps what it was given.
if grep -qs '^[0-9]* (triton_python_b) Z 1 ' /proc/[0-9]*/stat; then
  fail "the process of a Python model has died"
fi
if grep -qs '^[0-9]* (triton_python_b) T 1 ' /proc/[0-9]*/stat; then
  fail "the process of a Python model is stopped"
fi

if test "$mode" != live && ! fetch --fail --max-time 2 --output /dev/null "$http/v2/health/ready"; then
  test "$mode" = ready || rm -f "$state" 2> /dev/null
  fail "Triton is not ready: not all models are loaded"
fi

if test "$mode" = startup; then
  if ask_each 'tumor_segmenter brain_tumor'; then
    rm -f "$state" 2> /dev/null
    exit 0
  fi
  # An engine may be built for the first slice; when that has taken too long, it is for the other probes to say.
  since=$now
  test ! -r "$state" || read -r before_server since < "$state"
  test "${before_server:-$server}" = "$server" || since=$now
  keep "$server $since"
  tell_time
  test $((now - since)) -lt "$first_answer" || exit 0
  fail "$reason; since the models were loaded it has been $((now - since)) s"
fi

recall
look
keep "$server $now $answered $failed"
models='tumor_segmenter brain_tumor'
if has_grown "$before_answered"; then
  # Something was answered, which is all that is asked for, if nothing has failed. If something has, it may be one process of
  # several: that is not found with one slice.
  test "$failed" -gt "$before_failed" || exit 0
  models='tumor_segmenter tumor_segmenter tumor_segmenter brain_tumor brain_tumor brain_tumor'
fi
answered_at_first=$answered failed_at_first=$failed
ask_each "$models" && exit 0

# Nothing but other requests may be in the way. The gate tells within a moment what it has counted.
test "$exit_code" = 28 || sleep 1
look
if test "$exit_code" = 28 || test "$code" = 503; then
  if has_grown "${before_answered:-$answered_at_first}" && test "$failed" -le "$failed_at_first"; then
    exit 0
  fi
fi
fail "$reason"
