//! Lets a boxed or shared provider stand wherever a provider is asked for.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{ChangeStream, DiscoveryError, Fault, Provider, Registration, Seed};

// Every method is forwarded, those with defaults too: a default left out here would hide the inner provider's own.
macro_rules! forward {
    ($pointer:ident) => {
        #[async_trait]
        impl<P: Provider + ?Sized> Provider for $pointer<P> {
            fn id(&self) -> &'static str {
                (**self).id()
            }

            fn validate(&self) -> Vec<Fault> {
                (**self).validate()
            }

            async fn start(&self) -> Result<(), DiscoveryError> {
                (**self).start().await
            }

            async fn register(&self, registration: &Registration) -> Result<(), DiscoveryError> {
                (**self).register(registration).await
            }

            async fn discover(&self) -> Result<Vec<Seed>, DiscoveryError> {
                (**self).discover().await
            }

            fn changes(&self) -> Option<ChangeStream> {
                (**self).changes()
            }

            async fn deregister(&self) -> Result<(), DiscoveryError> {
                (**self).deregister().await
            }

            async fn stop(&self) -> Result<(), DiscoveryError> {
                (**self).stop().await
            }

            fn is_standalone(&self) -> bool {
                (**self).is_standalone()
            }
        }
    };
}

forward!(Arc);
forward!(Box);
