//! Containers: podman through systemd, docker compose, Kubernetes.

use super::services::in_quotes;
use super::{Artefact, Deployment, Files};
use crate::causes::Problem;
use serde::Serialize;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Where the model lies in a container.
const MODELS: &str = "/models";

/// Seconds that a model may take to be there.
const START: u32 = 300;

/// A document as YAML.
pub(super) fn yaml(document: &impl Serialize) -> Result<String, Problem> {
    serde_saphyr::to_string(document).map_err(|error| Problem::new(error.to_string()))
}

impl Deployment {
    fn image(&self) -> &'static str {
        if self.uses_gpu {
            "ghcr.io/ggml-org/llama.cpp:server-cuda"
        } else {
            "ghcr.io/ggml-org/llama.cpp:server"
        }
    }

    /// The file as the container sees it.
    fn inside(&self) -> Result<PathBuf, Problem> {
        if let Some((path, _)) = self.adapters.first() {
            return Err(Problem::new(format!(
                "the adapter {} is not carried into a container; deploy to llama-server or systemd, or merge it into the model",
                path.display()
            )));
        }
        Ok(Path::new(MODELS).join(self.file.file_name().unwrap_or_default()))
    }

    fn folder(&self) -> Result<&str, Problem> {
        self.text(crate::files::folder_of(&self.file))
    }
}

pub(super) fn quadlet(of: &Deployment) -> Result<Files, Problem> {
    let folder = of.folder()?;
    if folder.contains([',', '"', ' ']) {
        return Err(Problem::new(format!(
            "a quadlet cannot mount {folder}, since it has a comma, a quote or a space; write to another folder with -o"
        )));
    }
    let words = of.words(&of.inside()?, "0.0.0.0")?;
    let words: Vec<String> = words.iter().map(|it| in_quotes(it)).collect();
    let device = if of.uses_gpu { "AddDevice=nvidia.com/gpu=all\n" } else { "" };
    let memory = of.why_limit().zip(of.limit_bytes());
    let memory = memory
        .map(|(why, limit)| format!("# {why}\nPodmanArgs=--memory={limit}\n"))
        .unwrap_or_default();
    let text = format!(
        "[Unit]\nDescription={}\nAfter=network-online.target\n\n[Container]\nContainerName={}\nImage={}\nExec={}\n\
         Mount=type=bind,src={},target={MODELS},ro=true\nPublishPort=127.0.0.1:{port}:{port}\n{device}{memory}\
         DropCapability=all\nNoNewPrivileges=true\nReadOnly=true\n\
         HealthCmd=curl -fsS http://127.0.0.1:{port}/health\nHealthStartPeriod={START}s\n\n[Service]\nRestart=on-failure\n\
         TimeoutStartSec=900\n\n[Install]\nWantedBy=default.target\n",
        of.title.replace('%', "%%"),
        of.name,
        of.image(),
        words.join(" "),
        folder.replace('%', "%%"),
        port = of.port,
    );
    let name = format!("{}.container", of.name);
    let start = format!(
        "install -Dm 644 {name} ~/.config/containers/systemd/{name} && systemctl --user daemon-reload && systemctl --user start {}",
        of.name
    );
    Ok((vec![Artefact { name, text }], vec![start]))
}

pub(super) fn compose(of: &Deployment) -> Result<Files, Problem> {
    // Compose replaces variables in what it reads.
    let words = of.words(&of.inside()?, "0.0.0.0")?;
    let words: Vec<String> = words.iter().map(|it| it.replace('$', "$$")).collect();
    let port = of.port;
    let mut service = json!({
        "image": of.image(),
        "command": words,
        "ports": [format!("127.0.0.1:{port}:{port}")],
        "volumes": [{
            "type": "bind", "source": of.folder()?.replace('$', "$$"), "target": MODELS, "read_only": true,
        }],
        "read_only": true,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "healthcheck": {
            "test": ["CMD", "curl", "-fsS", format!("http://127.0.0.1:{port}/health")],
            "start_period": format!("{START}s"),
        },
    });
    if let Some(limit) = of.limit_bytes() {
        service["mem_limit"] = limit.into();
    }
    if of.uses_gpu {
        let gpus = json!([{ "driver": "nvidia", "count": "all", "capabilities": ["gpu"] }]);
        service["deploy"] = json!({ "resources": { "reservations": { "devices": gpus } } });
    }
    let name = format!("{}.compose.yaml", of.name);
    let text = yaml(&json!({ "services": { of.name.clone(): service } }))?;
    Ok((
        vec![Artefact { name: name.clone(), text }],
        vec![format!("docker compose -f {name} up -d")],
    ))
}

pub(super) fn kubernetes(of: &Deployment) -> Result<Files, Problem> {
    let port = of.port;
    let labels = json!({ "app": of.name });
    let mut limits = json!({});
    let mut requests = json!({});
    if let (Some(limit), Some(peak)) = (of.limit_bytes(), of.peak_bytes) {
        limits["memory"] = limit.to_string().into();
        requests["memory"] = peak.to_string().into();
    }
    if let Some(threads) = of.settings.threads {
        requests["cpu"] = threads.to_string().into();
    }
    if of.uses_gpu {
        limits["nvidia.com/gpu"] = "1".into();
    }
    let health = json!({ "httpGet": { "path": "/health", "port": port } });
    let probe = |more: Value| {
        let mut probe = health.clone();
        if let (Some(probe), Value::Object(more)) = (probe.as_object_mut(), more) {
            probe.extend(more);
        }
        probe
    };
    let container = json!({
        "name": "llama-server",
        "image": of.image(),
        "args": of.words(&of.inside()?, "0.0.0.0")?,
        "ports": [{ "containerPort": port }],
        "volumeMounts": [{ "name": "models", "mountPath": MODELS, "readOnly": true }],
        "resources": { "limits": limits, "requests": requests },
        "startupProbe": probe(json!({ "periodSeconds": 5, "failureThreshold": START / 5 })),
        "readinessProbe": probe(json!({ "periodSeconds": 10 })),
        "livenessProbe": probe(json!({ "periodSeconds": 30, "timeoutSeconds": 10 })),
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
    });
    let deployment = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": of.name, "labels": labels },
        "spec": {
            "replicas": 1,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "containers": [container],
                    "volumes": [{
                        "name": "models",
                        "hostPath": { "path": of.folder()?, "type": "Directory" },
                    }],
                },
            },
        },
    });
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": of.name, "labels": labels },
        "spec": { "selector": labels, "ports": [{ "port": port, "targetPort": port }] },
    });
    let name = format!("{}.kubernetes.yaml", of.name);
    let text = format!("{}---\n{}", yaml(&deployment)?, yaml(&service)?);
    Ok((vec![Artefact { name: name.clone(), text }], vec![format!("kubectl apply -f {name}")]))
}
