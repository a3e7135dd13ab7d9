import io.grpc.Attributes;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.EquivalentAddressGroup;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.NameResolver;
import io.grpc.NameResolverProvider;
import io.grpc.NameResolverRegistry;
import io.grpc.Status;
import io.grpc.StatusOr;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetSocketAddress;
import java.net.URI;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Collectors;

/**
 * An ordinary client of grpc-java: the default settings, and round_robin over the addresses.
 *
 * <p>It calls until its standard input is closed, then prints what became of the calls as one line of JSON.
 */
public final class Client {
  private static final String SERVICE = "inference.GRPCInferenceService/";

  private static volatile boolean over = false;
  private static final AtomicInteger ok = new AtomicInteger();
  private static final Map<String, Integer> lost = new TreeMap<>();

  public static void main(String[] arguments) throws Exception {
    Map<String, String> given = new TreeMap<>();
    for (int i = 0; i + 1 < arguments.length; i += 2) {
      given.put(arguments[i].substring(2), arguments[i + 1]);
    }
    byte[] request = HexFormat.of().parseHex(given.get("request"));
    NameResolverRegistry.getDefaultRegistry().register(new Given(given.get("addresses").split(",")));
    ManagedChannel channel =
        ManagedChannelBuilder.forTarget("given:///x").defaultLoadBalancingPolicy("round_robin").usePlaintext().build();
    boolean streams = given.getOrDefault("mode", "unary").equals("stream");
    List<Thread> callers = new ArrayList<>();
    for (int i = 0; i < Integer.parseInt(given.getOrDefault("callers", "4")); i++) {
      Thread caller = new Thread(() -> call(channel, request, streams));
      caller.start();
      callers.add(caller);
    }
    System.out.println("calling");
    while (System.in.read() >= 0) {}
    over = true;
    for (Thread caller : callers) {
      caller.join();
    }
    System.out.println("{\"ok\": " + ok + ", \"lost\": {" + lost.entrySet().stream()
        .map(entry -> quoted(entry.getKey()) + ": " + entry.getValue()).collect(Collectors.joining(", ")) + "}}");
    System.exit(0);
  }

  private static void call(ManagedChannel channel, byte[] request, boolean streams) {
    while (!over) {
      Status status = streams ? exchange(channel, request, "ModelStreamInfer", 3) : exchange(channel, request, "ModelInfer", 1);
      if (status.isOk()) {
        ok.incrementAndGet();
      } else {
        synchronized (lost) {
          lost.merge(status.getCode() + ": " + status.getDescription() + ", " + status.getCause(), 1, Integer::sum);
        }
      }
    }
  }

  /** Sends that many requests, each after the answer to the one before, and reads to the end. */
  private static Status exchange(ManagedChannel channel, byte[] request, String method, int messages) {
    boolean unary = messages == 1;
    MethodDescriptor<byte[], byte[]> described = MethodDescriptor.<byte[], byte[]>newBuilder()
        .setType(unary ? MethodDescriptor.MethodType.UNARY : MethodDescriptor.MethodType.BIDI_STREAMING)
        .setFullMethodName(SERVICE + method).setRequestMarshaller(new Raw()).setResponseMarshaller(new Raw()).build();
    ClientCall<byte[], byte[]> call =
        channel.newCall(described, CallOptions.DEFAULT.withDeadlineAfter(30, TimeUnit.SECONDS));
    CompletableFuture<Status> ended = new CompletableFuture<>();
    call.start(new ClientCall.Listener<byte[]>() {
      private int answers = 0;

      @Override
      public void onMessage(byte[] answer) {
        answers++;
        call.request(1);
        if (unary) {
          return;
        }
        if (answers < messages) {
          call.sendMessage(request);
        } else {
          call.halfClose();
        }
      }

      @Override
      public void onClose(Status status, Metadata trailers) {
        ended.complete(status.isOk() && answers != messages ? Status.INTERNAL.withDescription(answers + " answers") : status);
      }
    }, new Metadata());
    call.request(2);
    call.sendMessage(request);
    if (unary) {
      call.halfClose();
    }
    return ended.join();
  }

  private static String quoted(String text) {
    return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", "\\n") + '"';
  }

  /** Messages as they are: the test encodes them. */
  private static final class Raw implements MethodDescriptor.Marshaller<byte[]> {
    @Override
    public InputStream stream(byte[] bytes) {
      return new ByteArrayInputStream(bytes);
    }

    @Override
    public byte[] parse(InputStream stream) {
      try {
        return stream.readAllBytes();
      } catch (IOException error) {
        throw new IllegalStateException(error);
      }
    }
  }

  /** Resolves a name to the addresses of the command line. */
  private static final class Given extends NameResolverProvider {
    private final List<EquivalentAddressGroup> groups = new ArrayList<>();

    Given(String[] addresses) {
      for (String address : addresses) {
        String[] parts = address.split(":");
        groups.add(new EquivalentAddressGroup(new InetSocketAddress(parts[0], Integer.parseInt(parts[1]))));
      }
    }

    @Override
    public NameResolver newNameResolver(URI target, NameResolver.Args arguments) {
      return new NameResolver() {
        @Override
        public String getServiceAuthority() {
          return "given";
        }

        @Override
        public void start(Listener2 listener) {
          listener.onResult(ResolutionResult.newBuilder().setAddressesOrError(StatusOr.fromValue(groups))
              .setAttributes(Attributes.EMPTY).build());
        }

        @Override
        public void shutdown() {}
      };
    }

    @Override
    protected boolean isAvailable() {
      return true;
    }

    @Override
    protected int priority() {
      return 5;
    }

    @Override
    public String getDefaultScheme() {
      return "given";
    }
  }
}
