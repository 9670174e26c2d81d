//! gRPC stubs for the services of a proto file: the API that grpcio-compiler emits, as far as this package
//! uses it (blocking calls, streams). Written here because grpcio-compiler would bring protobuf 2.
//!
//! One thing differs. Servers get every request as a stream, of which they take one message. To the client it
//! is the same; but grpcio hands over a call with a stream as soon as its headers are there, and keeps any
//! other to itself, in one of its few slots, until the whole message has come: a client that opens calls and
//! sends nothing would hold all slots, and nobody else would be served.

use std::fmt::Write;

use protobuf::descriptor::{FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto};

/// The conversion of every message.
const MARSHALLER: &str = "::grpcio::Marshaller { ser: ::grpcio::pb_ser, de: ::grpcio::pb_de }";

/// One `pub mod <file>_grpc` for each file that has services.
pub(crate) fn modules(files: &[FileDescriptorProto]) -> String {
    let mut out = String::new();
    for file in files.iter().filter(|f| !f.service.is_empty()) {
        let name = file.name().trim_end_matches(".proto");
        let services: String = file.service.iter().map(|s| service(file.package(), name, s)).collect();
        let paths: String = file
            .service
            .iter()
            .flat_map(|s| s.method.iter().map(|m| format!("    {:?},\n", path(file.package(), s, m))))
            .collect();
        write!(
            out,
            "/// Services of {name}.proto.\npub mod {name}_grpc {{\n\
             /// Every method by its full name.\npub const ALL_METHODS: &[&str] = &[\n{paths}];\n{services}}}\n"
        )
        .expect("a String takes any text");
    }
    out
}

fn service(package: &str, module: &str, s: &ServiceDescriptorProto) -> String {
    let (name, snake) = (s.name(), snake(s.name()));
    let (mut consts, mut calls, mut handlers, mut routes) = Default::default();
    for m in &s.method {
        method(package, module, s, m, [&mut consts, &mut calls, &mut handlers, &mut routes]);
    }
    format!(
        "{consts}
#[derive(Clone)]
pub struct {name}Client {{ pub client: ::grpcio::Client }}
impl {name}Client {{
    pub fn new(channel: ::grpcio::Channel) -> Self {{ Self {{ client: ::grpcio::Client::new(channel) }} }}
{calls}}}
pub trait {name} {{
{handlers}}}
pub fn create_{snake}<S: {name} + Send + Clone + 'static>(s: S) -> ::grpcio::Service {{
    let mut builder = ::grpcio::ServiceBuilder::new();
{routes}    builder.build()
}}
"
    )
}

/// Appends one method to the constants, the client, the trait and the routes of its service.
fn method(
    package: &str,
    module: &str,
    s: &ServiceDescriptorProto,
    m: &MethodDescriptorProto,
    [consts, calls, handlers, routes]: [&mut String; 4],
) {
    let call = snake(m.name());
    let id = format!("METHOD_{}_{}", snake(s.name()), call).to_uppercase();
    let [req, res] = [m.input_type(), m.output_type()]
        .map(|t| format!("super::{module}::{}", t.rsplit('.').next().unwrap_or(t)));
    let path = path(package, s, m);
    if m.client_streaming() {
        let (ty, invoke, ends, sink) = if m.server_streaming() {
            let sink = ("DuplexSink", "add_duplex_streaming_handler");
            ("Duplex", "duplex_streaming", ["ClientDuplexSender", "ClientDuplexReceiver"], sink)
        } else {
            let sink = ("ClientStreamingSink", "add_client_streaming_handler");
            ("ClientStreaming", "client_streaming", ["ClientCStreamSender", "ClientCStreamReceiver"], sink)
        };
        client_stream(&id, &call, &req, &res, &path, (ty, invoke, ends), [consts, calls]);
        serve(&id, &call, &req, &res, sink, [handlers, routes]);
        return;
    }
    let (ty, sink, add, invoke, reply) = if m.server_streaming() {
        ("ServerStreaming", "DuplexSink", "add_duplex_streaming_handler", "server_streaming", {
            format!("::grpcio::ClientSStreamReceiver<{res}>")
        })
    } else {
        ("Unary", "ClientStreamingSink", "add_client_streaming_handler", "unary_call", res.clone())
    };
    *consts += &format!(
        "pub const {id}: ::grpcio::Method<{req}, {res}> = ::grpcio::Method {{
    ty: ::grpcio::MethodType::{ty}, name: {path:?}, req_mar: {MARSHALLER}, resp_mar: {MARSHALLER},
}};\n"
    );
    *calls += &format!(
        "    pub fn {call}_opt(&self, req: &{req}, opt: ::grpcio::CallOption) -> ::grpcio::Result<{reply}> {{
        self.client.{invoke}(&{id}, req, opt)
    }}
    pub fn {call}(&self, req: &{req}) -> ::grpcio::Result<{reply}> {{
        self.{call}_opt(req, ::grpcio::CallOption::default())
    }}\n"
    );
    serve(&id, &call, &req, &res, (sink, add), [handlers, routes]);
}

/// Appends the constant and the client's call of a method whose requests are a stream.
fn client_stream(
    id: &str,
    call: &str,
    req: &str,
    res: &str,
    path: &str,
    (ty, invoke, [sender, receiver]): (&str, &str, [&str; 2]),
    [consts, calls]: [&mut String; 2],
) {
    *consts += &format!(
        "pub const {id}: ::grpcio::Method<{req}, {res}> = ::grpcio::Method {{
    ty: ::grpcio::MethodType::{ty}, name: {path:?}, req_mar: {MARSHALLER}, resp_mar: {MARSHALLER},
}};\n"
    );
    *calls += &format!(
        "    pub fn {call}_opt(&self, opt: ::grpcio::CallOption)
        -> ::grpcio::Result<(::grpcio::{sender}<{req}>, ::grpcio::{receiver}<{res}>)> {{
        self.client.{invoke}(&{id}, opt)
    }}\n"
    );
}

/// Appends the handler of a method and its route.
fn serve(
    id: &str,
    call: &str,
    req: &str,
    res: &str,
    (sink, add): (&str, &str),
    [handlers, routes]: [&mut String; 2],
) {
    *handlers += &format!(
        "    fn {call}(&mut self, ctx: ::grpcio::RpcContext<'_>, req: ::grpcio::RequestStream<{req}>, sink: ::grpcio::{sink}<{res}>) {{
        let answer = sink.fail(::grpcio::RpcStatus::new(::grpcio::RpcStatusCode::UNIMPLEMENTED));
        ctx.spawn(async move {{ let _ = answer.await; drop(req); }})
    }}\n"
    );
    *routes += &format!(
        "    let mut instance = s.clone();
    builder = builder.{add}(&{id}, move |ctx, req, sink| instance.{call}(ctx, req, sink));\n"
    );
}

fn path(package: &str, s: &ServiceDescriptorProto, m: &MethodDescriptorProto) -> String {
    format!("/{package}.{}/{}", s.name(), m.name())
}

/// "GetJobStatus" as "get_job_status".
fn snake(camel: &str) -> String {
    let mut out = String::new();
    for (i, c) in camel.char_indices() {
        if c.is_uppercase() && i > 0 {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}
