//! The ways in which a node process can be told to find the others.

use distcache::{EngineBuilder, Provider, StaticProvider};

use crate::first::FirstNode;

/// How a node finds its peers. Several ways may be given; without any it is the first node of all.
#[derive(Debug, Clone, Default, clap::Args)]
#[non_exhaustive]
pub struct Finding {
    /// Addresses of nodes to join, with commas between them.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',')]
    pub seeds: Vec<String>,
    /// A DNS name that has the addresses of all nodes, which listen at one port.
    #[cfg(feature = "discovery")]
    #[arg(long, value_name = "NAME:PORT", requires = "dns_server")]
    pub dns: Option<String>,
    /// The DNS server to ask.
    #[cfg(feature = "discovery")]
    #[arg(long, value_name = "IP:PORT")]
    pub dns_server: Option<std::net::SocketAddr>,
    /// A NATS server at which the nodes meet.
    #[cfg(feature = "discovery")]
    #[arg(long, value_name = "URL")]
    pub nats: Option<String>,
    /// A Kubernetes API server that knows the nodes' pods: those of the namespace `default` with the label `app=distcache`, at
    /// their port `distcache`.
    #[cfg(feature = "discovery")]
    #[arg(long, value_name = "URL")]
    pub kubernetes: Option<String>,
}

impl Finding {
    /// Gives a builder the providers that are asked for.
    ///
    /// # Errors
    /// A value is not of the form that its help tells.
    pub(crate) fn apply(&self, builder: EngineBuilder) -> anyhow::Result<EngineBuilder> {
        let mut providers: Vec<Box<dyn Provider>> = Vec::new();
        if !self.seeds.is_empty() {
            providers.push(Box::new(StaticProvider::new(&self.seeds)));
        }
        #[cfg(feature = "discovery")]
        self.add_services(&mut providers)?;
        if providers.is_empty() {
            providers.push(Box::new(FirstNode));
        }
        Ok(providers.into_iter().fold(builder, EngineBuilder::discovery))
    }

    #[cfg(feature = "discovery")]
    fn add_services(&self, providers: &mut Vec<Box<dyn Provider>>) -> anyhow::Result<()> {
        use anyhow::Context as _;
        use distcache::{DnsProvider, KubernetesProvider, NatsProvider, discovery::KubernetesAccess};

        if let Some(dns) = &self.dns {
            let (name, port) = dns.rsplit_once(':').with_context(|| format!("{dns} is not NAME:PORT"))?;
            let port = port.parse().with_context(|| format!("{port} is no port"))?;
            providers.push(Box::new(DnsProvider::addresses(name, port).servers(self.dns_server)));
        }
        if let Some(url) = &self.nats {
            providers.push(Box::new(NatsProvider::new(url, "distcache.cities")));
        }
        if let Some(url) = &self.kubernetes {
            let pods = KubernetesProvider::pods("app=distcache", "distcache").namespace("default");
            providers.push(Box::new(pods.access(KubernetesAccess::Url(url.clone()))));
        }
        Ok(())
    }
}
