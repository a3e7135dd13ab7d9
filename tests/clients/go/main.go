// An ordinary client of grpc-go: the default settings, and round_robin over the addresses.
//
// It calls until its standard input is closed, then prints what became of the calls as one line of JSON.
package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
)

const service = "/inference.GRPCInferenceService/"

// rawCodec sends and receives messages as they are: the test encodes them.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(data []byte, v any) error { *v.(*[]byte) = append([]byte(nil), data...); return nil }
func (rawCodec) Name() string                       { return "proto" }

func unary(ctx context.Context, conn *grpc.ClientConn, request []byte) error {
	var answer []byte
	return conn.Invoke(ctx, service+"ModelInfer", &request, &answer, grpc.ForceCodec(rawCodec{}))
}

// stream sends three requests, each after the answer to the one before, and reads to the end.
func stream(ctx context.Context, conn *grpc.ClientConn, request []byte) error {
	description := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	opened, err := conn.NewStream(ctx, description, service+"ModelStreamInfer", grpc.ForceCodec(rawCodec{}))
	if err != nil {
		return err
	}
	var answer []byte
	for range 3 {
		if err := opened.SendMsg(&request); err != nil && err != io.EOF {
			return err
		}
		if err := opened.RecvMsg(&answer); err != nil {
			return err
		}
	}
	opened.CloseSend()
	if err := opened.RecvMsg(&answer); err != io.EOF {
		return fmt.Errorf("want the end of the stream, got %v", err)
	}
	return nil
}

func main() {
	addresses := flag.String("addresses", "", "host:port,host:port")
	mode := flag.String("mode", "unary", "unary or stream")
	encoded := flag.String("request", "", "an encoded ModelInferRequest, in hexadecimal")
	callers := flag.Int("callers", 4, "calls at once")
	flag.Parse()
	request, err := hex.DecodeString(*encoded)
	if err != nil {
		panic(err)
	}
	addressed := manual.NewBuilderWithScheme("given")
	var endpoints []resolver.Address
	for _, address := range strings.Split(*addresses, ",") {
		endpoints = append(endpoints, resolver.Address{Addr: address})
	}
	addressed.InitialState(resolver.State{Addresses: endpoints})
	conn, err := grpc.NewClient("given:///replicas", grpc.WithResolvers(addressed),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`))
	if err != nil {
		panic(err)
	}
	call := map[string]func(context.Context, *grpc.ClientConn, []byte) error{"unary": unary, "stream": stream}[*mode]
	report(run(*callers, func(ctx context.Context) error { return call(ctx, conn, request) }))
}

func run(callers int, call func(context.Context) error) (int, map[string]int) {
	var over atomic.Bool
	var lock sync.Mutex
	var group sync.WaitGroup
	ok, lost := 0, map[string]int{}
	for range callers {
		group.Go(func() {
			for !over.Load() {
				ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
				err := call(ctx)
				cancel()
				lock.Lock()
				if err == nil {
					ok++
				} else {
					lost[status.Code(err).String()+": "+status.Convert(err).Message()]++
				}
				lock.Unlock()
			}
		})
	}
	fmt.Println("calling")
	io.Copy(io.Discard, os.Stdin)
	over.Store(true)
	group.Wait()
	return ok, lost
}

func report(ok int, lost map[string]int) {
	json.NewEncoder(os.Stdout).Encode(map[string]any{"ok": ok, "lost": lost})
}
